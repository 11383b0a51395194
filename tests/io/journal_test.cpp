#include "io/journal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "core/error.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::bytes_of;
using test::expect_error;

const Journal::Identity kIdentity = {{"metric", "l2"}, {"k", "10"}, {"base", "a.h5:/train"}};

void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

TEST(Journal, remembers_what_was_recorded) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  EXPECT_FALSE(Journal::exists(out));
  {
    Journal journal = Journal::create(out, kIdentity);
    EXPECT_EQ(journal.resumes(), 0);
    journal.finish({20, 30});
    journal.finish({0, 10});
    journal.finish({10, 15});
    journal.record_checkpoint({.queries = {30, 40}, .rows_done = 1000, .slot = 0});
    journal.record_checkpoint(
        {.queries = {30, 40}, .rows_done = 2000, .ahead_end = 35, .ahead_rows = 2500, .slot = 1});
    journal.record_content_hash("base", 0xfedcba9876543210U);
  }
  EXPECT_TRUE(Journal::exists(out));
  const Journal journal = Journal::resume(out, kIdentity);
  EXPECT_EQ(journal.finished(), (std::vector<Range>{{0, 15}, {20, 30}}));
  EXPECT_EQ(journal.unfinished(50), (std::vector<Range>{{15, 20}, {30, 50}}));
  EXPECT_EQ(journal.unfinished(30), (std::vector<Range>{{15, 20}}));
  ASSERT_TRUE(journal.checkpoint().has_value());
  EXPECT_EQ(journal.checkpoint()->rows_done, 2000);
  EXPECT_EQ(journal.checkpoint()->queries, (Range{30, 40}));
  EXPECT_EQ(journal.checkpoint()->ahead_end, 35);
  EXPECT_EQ(journal.checkpoint()->ahead_rows, 2500);
  EXPECT_EQ(journal.checkpoint()->slot, 1);
  EXPECT_EQ(journal.content_hash("base"), 0xfedcba9876543210U);
  EXPECT_FALSE(journal.content_hash("queries").has_value());
  EXPECT_EQ(journal.resumes(), 1);
  EXPECT_EQ(Journal::resume(out, kIdentity).resumes(), 2);
  Journal::remove(out);
  EXPECT_FALSE(Journal::exists(out));
}

TEST(Journal, joins_ranges_like_a_set_of_queries) {
  const test::TemporaryFolder folder;
  Journal journal = Journal::create(folder / "r.h5", kIdentity);
  std::mt19937 random(7);
  std::vector<bool> finished(60, false);
  for (int round = 0; round < 40; ++round) {
    const auto begin = static_cast<std::int64_t>(random() % 60);
    const auto end = std::min<std::int64_t>(60, begin + static_cast<std::int64_t>(random() % 6));
    journal.finish({begin, end});
    for (std::int64_t q = begin; q < end; ++q) finished[static_cast<std::size_t>(q)] = true;
    std::vector<bool> seen(60, true);
    std::int64_t last_end = -1;
    for (const Range& range : journal.unfinished(60)) {
      EXPECT_GT(range.begin, last_end);
      last_end = range.end;
      for (std::int64_t q = range.begin; q < range.end; ++q) seen[static_cast<std::size_t>(q)] = false;
    }
    ASSERT_EQ(seen, finished) << "round " << round;
  }
}

TEST(Journal, names_every_difference_in_identity) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  Journal::create(out, kIdentity);
  const std::string message = expect_error(
      ErrorKind::config,
      [&] {
        Journal::resume(out, {{"metric", "l2"}, {"k", "100"}, {"queries", "q.h5"}});
      },
      "k was 10, is 100", "base was a.h5:/train, is absent", "queries was absent, is q.h5", "--no-resume");
  EXPECT_EQ(message.find("metric"), std::string::npos) << message;
}

/// A journal of one record a finished query, and the file's length after each.
struct Recorded {
  std::string bytes;
  std::vector<std::size_t> length_after;
};

Recorded record(const std::string& out, std::int64_t queries) {
  Journal journal = Journal::create(out, kIdentity);
  Recorded recorded;
  recorded.length_after.push_back(bytes_of(out + ".journal").size());
  for (std::int64_t q = 0; q < queries; ++q) {
    journal.finish({q, q + 1});
    recorded.length_after.push_back(bytes_of(out + ".journal").size());
  }
  recorded.bytes = bytes_of(out + ".journal");
  return recorded;
}

TEST(Journal, cut_at_any_byte_resumes_to_a_prefix) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  const Recorded recorded = record(out, 5);
  for (std::size_t length = 0; length <= recorded.bytes.size(); ++length) {
    overwrite(out + ".journal", recorded.bytes.substr(0, length));
    if (length < recorded.length_after[0]) {
      expect_error(ErrorKind::data, [&] { Journal::resume(out, kIdentity); });
      continue;
    }
    const auto whole =
        std::ranges::upper_bound(recorded.length_after, length) - recorded.length_after.begin() - 1;
    Journal journal = Journal::resume(out, kIdentity);
    ASSERT_EQ(journal.unfinished(5), (whole == 5 ? std::vector<Range>{} : std::vector<Range>{{whole, 5}}))
        << length;
    journal.finish({0, 5});
    EXPECT_TRUE(Journal::resume(out, kIdentity).unfinished(5).empty()) << length;
  }
}

TEST(Journal, notices_every_flipped_bit) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  const Recorded recorded = record(out, 3);
  for (std::size_t byte = 0; byte < recorded.bytes.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = recorded.bytes;
      damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
      overwrite(out + ".journal", damaged);
      try {
        // Without its line end the last record counts as torn: its query is searched again.
        EXPECT_EQ(Journal::resume(out, kIdentity).unfinished(3), (std::vector<Range>{{2, 3}}));
        EXPECT_EQ(byte, recorded.bytes.size() - 1) << "bit " << bit;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
      }
    }
  }
}

TEST(Journal, notices_a_lost_line) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  const Recorded recorded = record(out, 3);
  std::string damaged = recorded.bytes;
  damaged.erase(recorded.length_after[0], recorded.length_after[1] - recorded.length_after[0]);
  overwrite(out + ".journal", damaged);
  // Each record speaks for itself: what was lost counts as not done.
  EXPECT_EQ(Journal::resume(out, kIdentity).unfinished(3), (std::vector<Range>{{0, 1}}));
}

TEST(Journal, survives_a_kill_at_any_moment) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  Journal::create(out, kIdentity);
  std::int64_t done = 0;
  for (int round = 0; round < 5; ++round) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      Journal journal = Journal::resume(out, kIdentity);
      for (std::int64_t q = done;; ++q) {
        journal.finish({q, q + 1});
        if (::write(ready[1], &q, sizeof q) != sizeof q) ::_exit(1);
      }
    }
    std::int64_t reported = -1;
    ASSERT_EQ(::read(ready[0], &reported, sizeof reported), static_cast<ssize_t>(sizeof reported));
    std::this_thread::sleep_for(std::chrono::milliseconds(7 * round));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    ::close(ready[1]);
    for (std::int64_t q = 0; ::read(ready[0], &q, sizeof q) == sizeof q;) reported = q;
    ::close(ready[0]);

    const Journal journal = Journal::resume(out, kIdentity);
    ASSERT_EQ(journal.finished().size(), 1U);
    EXPECT_EQ(journal.finished()[0].begin, 0);
    EXPECT_GT(journal.finished()[0].end, reported) << "a record that was acknowledged is lost";
    done = journal.finished()[0].end;
  }
}

TEST(OutputLock, excludes_another_process_and_names_it) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  int to_child[2];
  int to_parent[2];
  ASSERT_EQ(::pipe(to_child), 0);
  ASSERT_EQ(::pipe(to_parent), 0);
  const pid_t child = ::fork();
  char byte = 0;
  if (child == 0) {
    const OutputLock lock = OutputLock::acquire(out);
    if (::write(to_parent[1], &byte, 1) != 1 || ::read(to_child[0], &byte, 1) != 1) ::_exit(1);
    ::_exit(0);  // the kernel releases what no destructor did
  }
  ASSERT_EQ(::read(to_parent[0], &byte, 1), 1);
  expect_error(
      ErrorKind::cannot_create, [&] { OutputLock::acquire(out); }, "process " + std::to_string(child));
  ASSERT_EQ(::write(to_child[1], &byte, 1), 1);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  for (const int fd : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) ::close(fd);

  EXPECT_TRUE(exists(out + ".lock"));
  { const OutputLock lock = OutputLock::acquire(out); }
  EXPECT_FALSE(exists(out + ".lock"));
}

TEST(OutputLock, moves_with_its_owner) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  OutputLock lock;
  lock = OutputLock::acquire(out);
  EXPECT_TRUE(exists(out + ".lock"));
  lock = OutputLock();
  EXPECT_FALSE(exists(out + ".lock"));
}

/// Holders that come and go at once: at any moment at most one of them may be inside.
TEST(OutputLock, is_never_held_twice) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  std::vector<pid_t> children;
  for (int c = 0; c < 4; ++c) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int round = 0; round < 300; ++round) {
        try {
          const OutputLock lock = OutputLock::acquire(out);
          const int fd = ::open((folder / "inside").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
          if (fd < 0) ::_exit(1);
          ::close(fd);
          ::unlink((folder / "inside").c_str());
        } catch (const Error&) {
          ::usleep(50);
        }
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "two processes held the lock at once";
  }
}

TEST(Checkpoint, slots_hold_two_states) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  for (const int slot : {0, 1}) {
    TopK rows(2, 3, Metric::ip);
    rows.neighbors()[4] = 40 + slot;
    ResultSlices(checkpoint_layout(out, slot, 5, 3)).write(3, rows);
  }
  for (const int slot : {0, 1}) {
    EXPECT_TRUE(exists(out + ".checkpoint." + std::to_string(slot)));
    EXPECT_EQ(ResultSlices(checkpoint_layout(out, slot, 5, 3)).read(3, 2, Metric::ip).neighbors()[4],
              40 + slot);
  }
  remove_checkpoints(out);
  EXPECT_FALSE(exists(out + ".checkpoint.0"));
  EXPECT_FALSE(exists(out + ".checkpoint.1"));
}

}  // namespace
}  // namespace mpishards::io

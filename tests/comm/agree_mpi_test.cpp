#include "comm/agree.hpp"

#include <gtest/gtest.h>

#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace mpishards::comm {
namespace {

using Seen = std::pair<ErrorKind, std::string>;

template <class Step>
std::optional<Seen> seen_by_this_rank(const Communicator& comm, Step step) {
  try {
    agree(comm, step);
  } catch (const Error& error) {
    return Seen{error.kind(), error.what()};
  }
  return std::nullopt;
}

std::string said_by(int rank, int n_ranks, const std::string& text) {
  return n_ranks == 1 ? text : "rank " + std::to_string(rank) + ": " + text;
}

TEST(Agree, nothing_happens_where_all_succeed) {
  const auto world = Communicator::world();
  int calls = 0;
  EXPECT_FALSE(seen_by_this_rank(world, [&] { ++calls; }));
  EXPECT_EQ(calls, 1);
}

TEST(Agree, one_ranks_failure_is_everybodys_with_kind_and_text) {
  const auto world = Communicator::world();
  for (int culprit = 0; culprit < world.size(); ++culprit) {
    const std::string text = "shard of rank " + std::to_string(culprit) + " is truncated; copy it again";
    const auto seen = seen_by_this_rank(world, [&] {
      if (world.rank() == culprit) throw Error(ErrorKind::data, text);
    });
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->first, ErrorKind::data);
    EXPECT_EQ(seen->second, said_by(culprit, world.size(), text));
  }
}

TEST(Agree, of_several_failures_the_lowest_ranks_is_told) {
  const auto world = Communicator::world();
  const int lowest = world.size() / 2;
  const auto seen = seen_by_this_rank(world, [&] {
    if (world.rank() >= lowest)
      throw Error(world.rank() == lowest ? ErrorKind::permission : ErrorKind::io,
                  "from " + std::to_string(world.rank()));
  });
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->first, ErrorKind::permission);
  EXPECT_EQ(seen->second, said_by(lowest, world.size(), "from " + std::to_string(lowest)));
}

TEST(Agree, out_of_memory_and_foreign_exceptions_have_kinds_too) {
  const auto world = Communicator::world();
  const int last = world.size() - 1;
  const auto memory = seen_by_this_rank(world, [&] {
    if (world.rank() == last) throw std::bad_alloc();
  });
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->first, ErrorKind::os);
  const auto foreign = seen_by_this_rank(world, [&] {
    if (world.rank() == last) throw std::runtime_error("from a library");
  });
  ASSERT_TRUE(foreign);
  EXPECT_EQ(foreign->first, ErrorKind::internal);
  EXPECT_EQ(foreign->second, said_by(last, world.size(), "from a library"));
}

TEST(Agree, empty_and_long_texts_arrive_whole) {
  const auto world = Communicator::world();
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{100000}}) {
    const std::string text(length, 'x');
    const auto seen = seen_by_this_rank(world, [&] {
      if (world.rank() == world.size() - 1) throw Error(ErrorKind::stopped, text);
    });
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->second, said_by(world.size() - 1, world.size(), text));
  }
}

TEST(Agree, works_again_after_a_failure) {
  const auto world = Communicator::world();
  EXPECT_TRUE(seen_by_this_rank(world, [] { throw Error(ErrorKind::io, "all"); }));
  EXPECT_FALSE(seen_by_this_rank(world, [] {}));
}

}  // namespace
}  // namespace mpishards::comm

#include "app/progress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "io/file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using testing::HasSubstr;

rank::Progress half_way() {
  return {.queries_done = 500,
          .queries_total = 1000,
          .groups_done = 1,
          .groups_total = 4,
          .elapsed_seconds = 10,
          .queries_per_second = 50,
          .eta_seconds = 62};
}

TEST(Progress, bar_shows_share_rate_and_eta) {
  const std::string bar = progress_bar(half_way(), 120);
  EXPECT_THAT(bar, HasSubstr("[===============>              ]  50.0 %  50 queries/s  ETA 1:02  group 2/4"));
  EXPECT_EQ(bar.find('\x1b'), std::string::npos) << "no colour, no cursor tricks";
}

TEST(Progress, bar_never_exceeds_the_terminal) {
  for (const int width : {1, 10, 40, 79})
    EXPECT_LE(progress_bar(half_way(), width).size(), static_cast<std::size_t>(width));
}

TEST(Progress, nothing_to_do_and_more_than_all_stay_within_the_bar) {
  EXPECT_THAT(progress_bar({}, 120), HasSubstr("  0.0 %"));
  rank::Progress over = half_way();
  over.queries_done = 2000;
  EXPECT_THAT(progress_bar(over, 120), HasSubstr("[==============================] 100.0 %"));
}

TEST(Progress, durations_are_read_like_a_clock) {
  EXPECT_EQ(format_duration(42), "0:42");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(2 * 86400 + 3723), "2 d 01:02:03");
  EXPECT_EQ(format_duration(-1), "unknown");
  EXPECT_EQ(format_duration(1.0 / 0.0), "unknown");
}

nlohmann::json heartbeat_in(const test::TemporaryFolder& folder) {
  return nlohmann::json::parse(io::read_text(folder / "out.h5.heartbeat.json"));
}

/// Waits, for less long than a test may take, until something holds.
bool comes_true(const std::function<bool()>& condition) {
  for (int tries = 0; tries < 500; ++tries) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST(Heartbeat, appears_at_once_and_is_removed_at_the_end) {
  const test::TemporaryFolder folder;
  ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
  EXPECT_FALSE(std::filesystem::exists(folder / "out.h5.heartbeat.json"))
      << "not before the job owns its output";
  display.begin({.queries_total = 1000, .eta_seconds = std::numeric_limits<double>::quiet_NaN()});
  const nlohmann::json heartbeat = heartbeat_in(folder);
  EXPECT_EQ(heartbeat["schema"], "mpishards.heartbeat/1");
  EXPECT_EQ(heartbeat["queries_total"], 1000);
  EXPECT_EQ(heartbeat["phase"], "searching");
  EXPECT_EQ(heartbeat["pid"], getpid());
  EXPECT_TRUE(heartbeat["eta_seconds"].is_null());
  display.update(half_way());
  display.end(true);
  EXPECT_FALSE(std::filesystem::exists(folder / "out.h5.heartbeat.json"));
}

TEST(Heartbeat, of_an_earlier_run_is_replaced_at_once) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "out.h5.heartbeat.json") << R"({"phase": "stopped", "pid": 1})";
  ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
  EXPECT_EQ(heartbeat_in(folder)["phase"], "stopped") << "not before the job owns its output";
  display.begin(half_way());
  EXPECT_EQ(heartbeat_in(folder)["phase"], "searching");
  EXPECT_EQ(heartbeat_in(folder)["pid"], getpid());
}

TEST(Heartbeat, is_refreshed_while_a_batch_takes_long) {
  const test::TemporaryFolder folder;
  ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
  display.begin({.queries_total = 1000});
  display.update(half_way());
  ASSERT_TRUE(comes_true([&] { return heartbeat_in(folder)["queries_done"] == 500; }));
  const double before = heartbeat_in(folder)["elapsed_seconds"];
  EXPECT_GE(before, 10);
  ASSERT_TRUE(comes_true([&] { return heartbeat_in(folder)["elapsed_seconds"] > before; }));
  EXPECT_EQ(heartbeat_in(folder)["queries_done"], 500);
  EXPECT_LT(heartbeat_in(folder)["eta_seconds"], 62);
}

TEST(Heartbeat, stays_when_the_job_was_stopped) {
  const test::TemporaryFolder folder;
  {
    ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
    display.begin({});
    display.update(half_way());
    display.end(false);
  }
  EXPECT_EQ(heartbeat_in(folder)["phase"], "stopped");
  EXPECT_EQ(heartbeat_in(folder)["queries_done"], 500);
}

TEST(Heartbeat, is_removed_when_the_job_fails_and_left_alone_by_one_that_was_refused) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "out.h5.heartbeat.json";
  { ProgressDisplay(folder / "out.h5", ProgressDisplay::Style::none, stderr).begin({}); }
  EXPECT_FALSE(std::filesystem::exists(path));
  std::ofstream(path) << "of another job";
  { const ProgressDisplay refused(folder / "out.h5", ProgressDisplay::Style::none, stderr); }
  EXPECT_EQ(io::read_text(path), "of another job");
}

TEST(Heartbeat, that_can_not_be_written_does_not_end_the_job) {
  ProgressDisplay display("/nonexistent/out.h5", ProgressDisplay::Style::none, stderr);
  EXPECT_NO_THROW(display.begin({}));
  EXPECT_NO_THROW(display.update(half_way()));
  EXPECT_NO_THROW(display.end(false));
}

TEST(Progress, bar_is_drawn_while_a_batch_takes_long) {
  const test::TemporaryFolder folder;
  std::FILE* stream = std::fopen((folder / "terminal").c_str(), "w");
  ASSERT_NE(stream, nullptr);
  {
    ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::bar, stream);
    display.begin({.queries_total = 1000, .eta_seconds = std::numeric_limits<double>::quiet_NaN()});
    EXPECT_TRUE(comes_true([&] { return !io::read_text(folder / "terminal").empty(); }));
  }
  std::fclose(stream);
  EXPECT_THAT(io::read_text(folder / "terminal"), HasSubstr("0.0 %  0 queries/s  ETA unknown"));
  EXPECT_EQ(io::read_text(folder / "terminal").back(), '\n') << "what follows stands on its own line";
}

}  // namespace
}  // namespace mpishards::app

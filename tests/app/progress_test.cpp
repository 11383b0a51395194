#include "app/progress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

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

TEST(Heartbeat, is_written_while_running_and_removed_at_the_end) {
  const test::TemporaryFolder folder;
  ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
  EXPECT_FALSE(std::filesystem::exists(folder / "out.h5.heartbeat.json"))
      << "not before the job owns its output";
  display.update(half_way());
  const nlohmann::json heartbeat = nlohmann::json::parse(io::read_text(folder / "out.h5.heartbeat.json"));
  EXPECT_EQ(heartbeat["schema"], "mpishards.heartbeat/1");
  EXPECT_EQ(heartbeat["queries_done"], 500);
  EXPECT_EQ(heartbeat["phase"], "searching");
  EXPECT_GT(heartbeat["pid"].get<int>(), 0);
  display.end(true);
  EXPECT_FALSE(std::filesystem::exists(folder / "out.h5.heartbeat.json"));
}

TEST(Heartbeat, stays_when_the_job_was_stopped) {
  const test::TemporaryFolder folder;
  ProgressDisplay display(folder / "out.h5", ProgressDisplay::Style::none, stderr);
  display.update(half_way());
  display.end(false);
  EXPECT_EQ(nlohmann::json::parse(io::read_text(folder / "out.h5.heartbeat.json"))["phase"], "stopped");
}

TEST(Heartbeat, that_can_not_be_written_does_not_end_the_job) {
  ProgressDisplay display("/nonexistent/out.h5", ProgressDisplay::Style::none, stderr);
  EXPECT_NO_THROW(display.update(half_way()));
  EXPECT_NO_THROW(display.end(false));
}

}  // namespace
}  // namespace mpishards::app

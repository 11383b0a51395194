#include "core/timer.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <set>
#include <thread>

namespace mpishards {
namespace {

double sum(const std::array<double, kPhases>& totals) {
  return std::accumulate(totals.begin(), totals.end(), 0.0);
}

double of(const PhaseClock& clock, Phase phase) {
  return clock.totals_seconds()[static_cast<std::size_t>(phase)];
}

void sleep_milliseconds(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(PhaseClockTest, totals_sum_to_the_wall_time) {
  PhaseClock clock;
  for (const Phase phase : {Phase::read, Phase::search, Phase::read, Phase::merge, Phase::other}) {
    clock.enter(phase);
    sleep_milliseconds(2);
  }
  const double before = clock.elapsed_seconds();
  const double total = sum(clock.totals_seconds());
  EXPECT_GE(total, before - 1e-9);
  EXPECT_LE(total, clock.elapsed_seconds() + 1e-9);
}

TEST(PhaseClockTest, time_belongs_to_the_phase_it_was_spent_in) {
  PhaseClock clock;
  clock.enter(Phase::search);
  sleep_milliseconds(20);
  clock.enter(Phase::write);
  EXPECT_GE(of(clock, Phase::search), 0.020);
  const double search = of(clock, Phase::search);
  sleep_milliseconds(5);
  EXPECT_EQ(of(clock, Phase::search), search);
  EXPECT_GE(of(clock, Phase::write), 0.005);
  EXPECT_EQ(of(clock, Phase::wait), 0.0);
}

TEST(PhaseClockTest, a_scope_returns_to_the_phase_before) {
  PhaseClock clock;
  clock.enter(Phase::search);
  {
    const PhaseClock::Scope outer(clock, Phase::merge);
    EXPECT_EQ(clock.current(), Phase::merge);
    {
      const PhaseClock::Scope inner(clock, Phase::wait);
      EXPECT_EQ(clock.current(), Phase::wait);
    }
    EXPECT_EQ(clock.current(), Phase::merge);
  }
  EXPECT_EQ(clock.current(), Phase::search);
}

TEST(PhaseClockTest, spans_follow_each_other_without_gaps) {
  PhaseClock clock;
  clock.enter(Phase::read);
  clock.enter(Phase::read);  // staying is no new span
  clock.enter(Phase::search);
  const auto spans = clock.spans();
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].phase, Phase::other);
  EXPECT_EQ(spans[1].phase, Phase::read);
  EXPECT_EQ(spans[2].phase, Phase::search);
  EXPECT_EQ(spans[0].begin_seconds, 0.0);
  for (std::size_t i = 1; i < spans.size(); ++i) EXPECT_EQ(spans[i].begin_seconds, spans[i - 1].end_seconds);
}

TEST(PhaseClockTest, many_spans_are_joined_and_totals_stay_exact) {
  PhaseClock clock;
  for (int i = 0; i < 3 * static_cast<int>(PhaseClock::kMaxSpans); ++i)
    clock.enter(i % 2 == 0 ? Phase::read : Phase::search);
  const auto spans = clock.spans();
  EXPECT_LE(spans.size(), PhaseClock::kMaxSpans + 1);
  EXPECT_EQ(spans.front().begin_seconds, 0.0);
  for (std::size_t i = 1; i < spans.size(); ++i) EXPECT_EQ(spans[i].begin_seconds, spans[i - 1].end_seconds);
  EXPECT_NEAR(sum(clock.totals_seconds()), clock.elapsed_seconds(), 1e-3);
}

TEST(PhaseNames, are_seven_different_ones) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kPhases; ++i) names.insert(to_string(static_cast<Phase>(i)));
  EXPECT_EQ(names,
            (std::set<std::string_view>{"other", "read", "scatter", "search", "merge", "write", "wait"}));
}

}  // namespace
}  // namespace mpishards

#include "rank/progress_meter.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace mpishards::rank {
namespace {

JobShape shape_of(std::int64_t nq, std::int64_t rows) {
  JobShape shape;
  shape.nq = nq;
  shape.rows = rows;
  return shape;
}

JobPlan plan_of(std::int64_t batch, std::int64_t rows_per_group, std::int64_t rows) {
  JobPlan plan;
  plan.batch = batch;
  plan.queries_per_pass = 1000;
  plan.rows_per_group = rows_per_group;
  plan.groups = (rows + rows_per_group - 1) / rows_per_group;
  return plan;
}

TEST(ProgressMeter, a_resident_base_counts_whole_batches) {
  const JobPlan plan = plan_of(25, 400, 400);
  const auto passes = cut_passes(plan, {{0, 100}}, std::nullopt);
  const ProgressMeter meter(shape_of(100, 400), plan, passes, 10);
  EXPECT_EQ(meter.at_begin(10).queries_done, 0);
  EXPECT_TRUE(std::isnan(meter.at_begin(10).eta_seconds));
  const Progress progress = meter.after_batches(passes[0], {0, 400}, 1, 12);
  EXPECT_EQ(progress.queries_done, 25);
  EXPECT_EQ(progress.queries_total, 100);
  EXPECT_EQ(progress.groups_total, 1);
  EXPECT_DOUBLE_EQ(progress.queries_per_second, 12.5);
  EXPECT_DOUBLE_EQ(progress.eta_seconds, 6);
  EXPECT_DOUBLE_EQ(progress.elapsed_seconds, 12);
}

TEST(ProgressMeter, a_streamed_base_weighs_queries_by_the_rows_they_have_seen) {
  const JobPlan plan = plan_of(50, 100, 400);
  const auto passes = cut_passes(plan, {{0, 100}}, std::nullopt);
  ProgressMeter meter(shape_of(100, 400), plan, passes, 0);
  meter.finish_group(passes[0], {0, 100});
  const Progress progress = meter.after_batches(passes[0], {100, 200}, 1, 3);
  EXPECT_EQ(progress.queries_done, 37);  // 3 of 8 parts
  EXPECT_EQ(progress.groups_done, 1);
  EXPECT_DOUBLE_EQ(progress.eta_seconds, 5);
}

TEST(ProgressMeter, what_earlier_runs_answered_counts_as_done_and_not_as_speed) {
  const JobPlan plan = plan_of(10, 400, 400);
  const auto passes = cut_passes(plan, {{80, 100}}, std::nullopt);
  const ProgressMeter meter(shape_of(100, 400), plan, passes, 0);
  EXPECT_EQ(meter.at_begin(0).queries_done, 80);
  const Progress progress = meter.after_batches(passes[0], {0, 400}, 1, 1);
  EXPECT_EQ(progress.queries_done, 90);
  EXPECT_DOUBLE_EQ(progress.queries_per_second, 10);
  EXPECT_DOUBLE_EQ(progress.eta_seconds, 1);
}

TEST(ProgressMeter, a_pass_continued_in_the_middle_of_its_stream_ends_at_all) {
  const JobPlan plan = plan_of(50, 100, 400);
  const io::Journal::Checkpoint saved{
      .queries = {0, 100}, .rows_done = 200, .ahead_end = 50, .ahead_rows = 300, .slot = 0};
  const auto passes = cut_passes(plan, {{0, 100}}, saved);
  ProgressMeter meter(shape_of(100, 400), plan, passes, 0);
  EXPECT_EQ(meter.at_begin(0).queries_done, 62);  // 5 of 8 parts
  const auto groups = cut_groups(plan, 400, passes[0]);
  ASSERT_EQ(groups.size(), 2U);
  // The first batch has seen this group already.
  EXPECT_DOUBLE_EQ(meter.after_batches(passes[0], groups[0], 1, 1).queries_per_second, 0);
  meter.finish_group(passes[0], groups[0]);
  const Progress progress = meter.after_batches(passes[0], groups[1], 2, 6);
  EXPECT_EQ(progress.queries_done, 100);
  EXPECT_DOUBLE_EQ(progress.eta_seconds, 0);
}

}  // namespace
}  // namespace mpishards::rank

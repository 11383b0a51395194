#include "rank/query_pass.hpp"

#include <gtest/gtest.h>

namespace mpishards::rank {
namespace {

JobPlan plan_of(std::int64_t batch, std::int64_t queries_per_pass, std::int64_t rows_per_group) {
  JobPlan plan;
  plan.batch = batch;
  plan.queries_per_pass = queries_per_pass;
  plan.rows_per_group = rows_per_group;
  return plan;
}

TEST(QueryPass, cuts_queries_into_passes_and_batches) {
  const auto passes = cut_passes(plan_of(4, 10, 100), {{0, 23}}, std::nullopt);
  ASSERT_EQ(passes.size(), 3U);
  EXPECT_EQ(passes[0].batches, (std::vector<io::Range>{{0, 4}, {4, 8}, {8, 10}}));
  EXPECT_EQ(passes[1].queries, (io::Range{10, 20}));
  EXPECT_EQ(passes[2].batches, (std::vector<io::Range>{{20, 23}}));
  EXPECT_EQ(passes[0].nq() + passes[1].nq() + passes[2].nq(), 23);
}

TEST(QueryPass, leaves_out_what_is_finished) {
  const auto passes = cut_passes(plan_of(4, 100, 100), {{3, 5}, {9, 15}}, std::nullopt);
  ASSERT_EQ(passes.size(), 1U);
  EXPECT_EQ(passes[0].batches, (std::vector<io::Range>{{3, 5}, {9, 13}, {13, 15}}));
}

TEST(QueryPass, continues_a_checkpoint_first_and_cuts_a_batch_where_queries_are_ahead) {
  const io::Journal::Checkpoint saved{
      .queries = {0, 10}, .rows_done = 200, .ahead_end = 6, .ahead_rows = 300, .slot = 0};
  const auto passes = cut_passes(plan_of(4, 10, 100), {{0, 20}}, saved);
  ASSERT_EQ(passes.size(), 2U);
  EXPECT_EQ(passes[0].batches, (std::vector<io::Range>{{0, 4}, {4, 6}, {6, 10}}));
  EXPECT_EQ(passes[0].rows_done, 200);
  EXPECT_TRUE(passes[0].is_continued());
  EXPECT_FALSE(passes[1].is_continued());
  EXPECT_EQ(passes[1].queries, (io::Range{10, 20}));
}

TEST(QueryPass, groups_end_where_queries_are_ahead_whatever_the_new_group_size) {
  QueryPass pass;
  pass.rows_done = 200;
  pass.ahead_rows = 350;
  EXPECT_EQ(cut_groups(plan_of(4, 10, 100), 500, pass),
            (std::vector<io::Range>{{200, 300}, {300, 350}, {350, 450}, {450, 500}}));
  EXPECT_EQ(cut_groups(plan_of(4, 10, 1000), 500, pass), (std::vector<io::Range>{{200, 350}, {350, 500}}));
}

}  // namespace
}  // namespace mpishards::rank

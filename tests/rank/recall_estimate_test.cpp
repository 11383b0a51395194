#include "rank/recall_estimate.hpp"

#include <gtest/gtest.h>

namespace mpishards::rank {
namespace {

/// Two queries: of one all neighbors lie in the nearest list, of the other in lists 1, 3, 3 and 9.
ProbeDepths two_queries() {
  ProbeDepths depths;
  depths.add({1, 1});
  depths.add({3, 1, 9, 3});
  return depths;
}

TEST(ProbeDepths, recall_is_the_mean_over_queries) {
  const ProbeDepths depths = two_queries();
  EXPECT_DOUBLE_EQ(depths.recall(1).recall, (1 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(depths.recall(2).recall, (1 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(depths.recall(3).recall, (1 + 0.75) / 2);
  EXPECT_DOUBLE_EQ(depths.recall(8).recall, (1 + 0.75) / 2);
  EXPECT_DOUBLE_EQ(depths.recall(9).recall, 1);
  EXPECT_EQ(depths.recall(9).queries, 2);
}

TEST(ProbeDepths, the_fewest_lists_that_reach_a_recall) {
  const ProbeDepths depths = two_queries();
  EXPECT_EQ(depths.nprobe_for(0.01), 1);
  EXPECT_EQ(depths.nprobe_for(0.625), 1);
  EXPECT_EQ(depths.nprobe_for(0.63), 3);
  EXPECT_EQ(depths.nprobe_for(0.875), 3);
  EXPECT_EQ(depths.nprobe_for(0.88), 9);
  EXPECT_EQ(depths.nprobe_for(1), 9);
}

// The figures are those of a table of the interval, to four places.
TEST(WilsonInterval, is_the_textbook_one) {
  const auto [low, high] = wilson_interval(0.9, 100);
  EXPECT_NEAR(low, 0.8256, 5e-5);
  EXPECT_NEAR(high, 0.9448, 5e-5);
  const auto [least, most] = wilson_interval(1, 10);
  EXPECT_NEAR(least, 0.7225, 5e-5);
  EXPECT_NEAR(most, 1, 1e-12);
  EXPECT_EQ(wilson_interval(0, 10).first, 0);
}

}  // namespace
}  // namespace mpishards::rank

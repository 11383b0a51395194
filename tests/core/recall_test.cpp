#include "core/recall.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace mpishards {
namespace {

struct Answer {
  std::vector<GlobalId> neighbors;
  std::vector<double> distances;
  ComparableRow row() const { return {neighbors, distances}; }
};

constexpr DistanceTolerance kExact{};

TEST(Recall, is_one_for_the_truth_itself) {
  const Answer truth{{4, 2, 9}, {0.0, 1.0, 2.0}};
  const RecallCount count = recall_by_distance(truth.row(), truth.row(), 3, kExact);
  EXPECT_EQ(count.found, 3);
  EXPECT_EQ(count.wanted, 3);
  EXPECT_EQ(recall_by_id(truth.neighbors, truth.neighbors, 3).recall(), 1.0);
}

TEST(Recall, counts_an_equal_distance_as_found) {
  const Answer truth{{4, 2, 9}, {0.0, 1.0, 2.0}};
  const Answer other_tie{{4, 2, 11}, {0.0, 1.0, 2.0}};
  EXPECT_EQ(recall_by_distance(other_tie.row(), truth.row(), 3, kExact).recall(), 1.0);
  EXPECT_EQ(recall_by_id(other_tie.neighbors, truth.neighbors, 3).found, 2);
}

TEST(Recall, does_not_count_what_is_farther) {
  const Answer truth{{4, 2, 9}, {0.0, 1.0, 2.0}};
  const Answer farther{{4, 2, 11}, {0.0, 1.0, 2.1}};
  EXPECT_EQ(recall_by_distance(farther.row(), truth.row(), 3, kExact).found, 2);
  EXPECT_EQ(recall_by_distance(farther.row(), truth.row(), 3, {0.05, 0}).found, 3);
  EXPECT_EQ(recall_by_distance(farther.row(), truth.row(), 3, {0, 0.2}).found, 3);
}

TEST(Recall, looks_at_the_first_places_alone) {
  const Answer truth{{4, 2, 9}, {0.0, 1.0, 2.0}};
  const Answer reversed{{9, 2, 4}, {2.0, 1.0, 0.0}};
  EXPECT_EQ(recall_by_distance(reversed.row(), truth.row(), 1, kExact).found, 0);
  EXPECT_EQ(recall_by_id(reversed.neighbors, truth.neighbors, 1).found, 0);
  EXPECT_EQ(recall_by_id(reversed.neighbors, truth.neighbors, 3).found, 3);
}

TEST(Recall, counts_a_neighbor_once_and_padding_never) {
  const Answer truth{{4, 2, 9}, {0.0, 1.0, 2.0}};
  const Answer repeated{{4, 4, kNoNeighbor}, {0.0, 0.0, 0.5}};
  EXPECT_EQ(recall_by_distance(repeated.row(), truth.row(), 3, kExact).found, 1);
  EXPECT_EQ(recall_by_id(repeated.neighbors, truth.neighbors, 3).found, 1);
  const Answer short_truth{{4, kNoNeighbor, kNoNeighbor}, {0.0, 9.0, 9.0}};
  EXPECT_EQ(recall_by_distance(truth.row(), short_truth.row(), 3, kExact).wanted, 1);
  EXPECT_EQ(recall_by_distance(truth.row(), short_truth.row(), 3, kExact).found, 1);
}

TEST(Recall, of_negative_distances_widens_in_the_right_direction) {
  const Answer truth{{4}, {-10.0}};
  const Answer slightly_farther{{5}, {-9.9}};
  EXPECT_EQ(recall_by_distance(slightly_farther.row(), truth.row(), 1, kExact).found, 0);
  EXPECT_EQ(recall_by_distance(slightly_farther.row(), truth.row(), 1, {0.02, 0}).found, 1);
}

TEST(Recall, sums_over_queries) {
  RecallCount sum;
  EXPECT_EQ(sum.recall(), 1.0);
  sum += {1, 4};
  sum += {2, 4};
  EXPECT_EQ(sum.recall(), 0.375);
}

TEST(DistanceRatio, is_the_mean_over_places) {
  const Answer truth{{1, 2, 3, 4}, {0.0, 1.0, 2.0, 4.0}};
  const Answer result{{1, 5, 3, kNoNeighbor}, {0.0, 2.0, 2.0, 9.0}};
  const RatioSum ratio = distance_ratio(result.row(), truth.row(), 4);
  EXPECT_EQ(ratio.places, 3);
  EXPECT_DOUBLE_EQ(ratio.mean(), (1.0 + 2.0 + 1.0) / 3);
}

}  // namespace
}  // namespace mpishards

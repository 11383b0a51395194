#include "rank/inverted_lists.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "rank/self_check.hpp"

namespace mpishards::rank {
namespace {

/// Lists of 0, 3, 0, 0, 4, 1 and 0 rows.
InvertedLists uneven_lists() {
  return {{0, 0, 3, 3, 3, 7, 8, 8}, {}};
}

std::vector<std::int64_t> starts_of(const ShardLists& lists) {
  const auto starts = lists.view().starts;
  return {starts.begin(), starts.end()};
}

TEST(InvertedLists, a_row_is_in_the_list_that_begins_before_it_and_has_rows) {
  const InvertedLists lists = uneven_lists();
  EXPECT_EQ(lists.count(), 7);
  const std::vector<std::int64_t> expected = {1, 1, 1, 4, 4, 4, 4, 5};
  for (std::int64_t row = 0; row < 8; ++row)
    EXPECT_EQ(lists.list_of(row), expected[static_cast<std::size_t>(row)]) << row;
}

TEST(InvertedLists, a_shard_has_whole_lists_and_the_cut_ends_of_others) {
  const InvertedLists lists = uneven_lists();
  const ShardLists all(lists, {0, 8});
  EXPECT_EQ(all.view().first_list, 1);
  EXPECT_EQ(starts_of(all), (std::vector<std::int64_t>{0, 3, 3, 3, 7, 8}));
  const ShardLists cut(lists, {2, 5});
  EXPECT_EQ(cut.view().first_list, 1);
  EXPECT_EQ(starts_of(cut), (std::vector<std::int64_t>{0, 1, 1, 1, 3}));
  const ShardLists inside(lists, {4, 6});
  EXPECT_EQ(inside.view().first_list, 4);
  EXPECT_EQ(starts_of(inside), (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(ShardLists(lists, {8, 8}).view().count(), 0);
}

TEST(ListProber, finds_the_lists_that_plain_loops_find) {
  constexpr std::int64_t kLists = 37;
  constexpr std::int64_t kDimension = 11;
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  Matrix centroids(DType::f32, kLists, kDimension);
  Matrix queries(DType::f32, 50, kDimension);
  for (Matrix* matrix : {&centroids, &queries})
    std::generate_n(matrix->as<float>().data, matrix->rows() * kDimension, [&] { return normal(random); });
  std::copy_n(centroids.as<float>().row(3), kDimension,
              centroids.as<float>().row(20));  // ties by smaller list
  const MatrixView<const float> asked = queries.view().as<float>();
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine})
    for (const std::int64_t nprobe : {std::int64_t{1}, std::int64_t{8}, kLists}) {
      ListProber prober(metric, centroids, "cpu", {});
      EXPECT_EQ(prober.probe(asked, nprobe).lists, plain_probes(metric, centroids, asked, nprobe).lists)
          << to_string(metric) << " " << nprobe;
    }
}

}  // namespace
}  // namespace mpishards::rank

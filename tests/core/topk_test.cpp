#include "core/topk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace mpishards {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// (key, padding, id): smaller is closer. Written without Closer.
using Ranked = std::tuple<float, bool, GlobalId>;

Ranked ranked(bool smaller, GlobalId id, float distance) {
  return {smaller ? distance : -distance, id == kNoNeighbor, id};
}

struct Entry {
  GlobalId id;
  float distance;
};

const std::vector<Entry> kEntries = {{0, 0.0f},
                                     {1, 0.0f},
                                     {7, -0.0f},
                                     {2, 1.5f},
                                     {3, -1.5f},
                                     {4, kInfinity},
                                     {5, -kInfinity},
                                     {6, kInfinity},
                                     {std::int64_t{1} << 40, 1.5f},
                                     {kNoNeighbor, kInfinity},
                                     {kNoNeighbor, -kInfinity}};

TEST(CloserOrder, is_the_documented_order_on_every_pair) {
  for (const bool smaller : {true, false})
    for (const Entry& a : kEntries)
      for (const Entry& b : kEntries) {
        EXPECT_EQ(Closer(smaller)(a.id, a.distance, b.id, b.distance),
                  ranked(smaller, a.id, a.distance) < ranked(smaller, b.id, b.distance))
            << a.id << " at " << a.distance << ", " << b.id << " at " << b.distance;
      }
}

TEST(CloserOrder, puts_padding_behind_a_real_neighbor_at_the_worst_distance) {
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    const float worst = worst_distance(metric);
    EXPECT_TRUE(Closer(metric)(123, worst, kNoNeighbor, worst));
    EXPECT_FALSE(Closer(metric)(kNoNeighbor, worst, 123, worst));
  }
}

TEST(TopKRows, start_as_padding) {
  const TopK rows(2, 3, Metric::ip);
  for (std::int64_t q = 0; q < 2; ++q)
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(rows.row(q).neighbors[i], kNoNeighbor);
      EXPECT_EQ(rows.row(q).distances[i], -kInfinity);
    }
  EXPECT_EQ(rows.kth_distance(1), -kInfinity);
}

TEST(TopKRows, kth_distance_is_the_last_of_the_row) {
  TopK rows(2, 3, Metric::l2);
  rows.row(1).distances[2] = 8.0f;
  EXPECT_EQ(rows.kth_distance(1), 8.0f);
  EXPECT_EQ(rows.kth_distance(0), kInfinity);
}

/// A sorted row of `length` entries with many equal distances, ids of the given parity.
std::vector<Entry> sorted_row(std::mt19937& random, bool smaller, std::size_t length, int parity) {
  std::vector<Entry> row;
  for (std::size_t i = 0; i < length; ++i)
    row.push_back({static_cast<GlobalId>(2 * i) + parity, static_cast<float>(random() % 4)});
  std::ranges::sort(row, {}, [&](const Entry& e) { return ranked(smaller, e.id, e.distance); });
  return row;
}

void fill(const std::vector<Entry>& from, NeighborRow to) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    to.neighbors[i] = from[i].id;
    to.distances[i] = from[i].distance;
  }
}

TEST(MergeInto, keeps_the_first_k_of_the_sorted_union) {
  std::mt19937 random(1);
  for (const Metric metric : {Metric::l2, Metric::ip})
    for (const std::size_t k : {1u, 2u, 5u, 16u})
      for (int repetition = 0; repetition < 50; ++repetition) {
        const bool smaller = metric == Metric::l2;
        const auto a = sorted_row(random, smaller, random() % (k + 1), 0);
        const auto b = sorted_row(random, smaller, random() % (k + 1), 1);
        TopK into(1, static_cast<std::int64_t>(k), metric);
        TopK other = into;
        TopK expected = into;
        fill(a, into.row(0));
        fill(b, other.row(0));
        std::vector<Entry> all = a;
        all.insert(all.end(), b.begin(), b.end());
        std::ranges::sort(all, {}, [&](const Entry& e) { return ranked(smaller, e.id, e.distance); });
        all.resize(std::min(all.size(), k));
        fill(all, expected.row(0));
        merge_into(into, other);
        EXPECT_EQ(into, expected) << to_string(metric) << " k " << k;
      }
}

TEST(MergeInto, refuses_answers_of_other_shape_or_metric) {
  TopK into(2, 3, Metric::l2);
  EXPECT_THROW(merge_into(into, TopK(1, 3, Metric::l2)), Error);
  EXPECT_THROW(merge_into(into, TopK(2, 4, Metric::l2)), Error);
  EXPECT_THROW(merge_into(into, TopK(2, 3, Metric::ip)), Error);
}

TEST(MergeInto, takes_no_rows_at_all) {
  TopK into(0, 3, Metric::l2);
  merge_into(into, TopK(0, 3, Metric::l2));
  EXPECT_EQ(into.nq(), 0);
}

TEST(MergeRows, leaves_the_rest_alone_where_inputs_are_shorter) {
  TopK out(1, 4, Metric::l2);
  TopK a(1, 1, Metric::l2);
  TopK b(1, 1, Metric::l2);
  fill({{9, 2.0f}}, a.row(0));
  fill({{4, 1.0f}}, b.row(0));
  merge_rows(std::as_const(a).row(0), std::as_const(b).row(0), Closer(Metric::l2), out.row(0));
  TopK expected(1, 4, Metric::l2);
  fill({{4, 1.0f}, {9, 2.0f}}, expected.row(0));
  EXPECT_EQ(out, expected);
}

TEST(TopK, entries_left_out_close_the_gap_and_the_last_goes_where_there_is_none) {
  TopK rows(3, 3, Metric::l2);
  const GlobalId ids[] = {4, 5, 6, 6, 4, 5, 7, 8, 9};
  for (std::int64_t i = 0; i < 9; ++i) {
    rows.neighbors()[i] = ids[i];
    rows.distances()[i] = static_cast<float>(i);
  }
  const std::vector<GlobalId> selves = {4, 5, 6};
  const TopK left = without_entries(rows, selves);
  ASSERT_EQ(left.k(), 2);
  EXPECT_EQ(std::vector<GlobalId>(left.neighbors(), left.neighbors() + 6),
            (std::vector<GlobalId>{5, 6, 6, 4, 7, 8}));
  EXPECT_EQ(std::vector<float>(left.distances(), left.distances() + 6),
            (std::vector<float>{1, 2, 3, 4, 6, 7}));
}

}  // namespace
}  // namespace mpishards

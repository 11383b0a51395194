#include "rank/range_work.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace mpishards::rank {
namespace {

using Block = io::Journal::Block;
using kernels::RangePairs;

/// How often every query meets every row.
class Meetings {
 public:
  Meetings(std::int64_t rows, std::int64_t nq) : rows_(rows), counts_(std::size_t(rows * nq), 0) {}
  void add(io::Range rows, io::Range queries) {
    for (std::int64_t q = queries.begin; q < queries.end; ++q)
      for (std::int64_t row = rows.begin; row < rows.end; ++row) ++counts_[std::size_t(q * rows_ + row)];
  }
  int count(std::int64_t query, std::int64_t row) const { return counts_[std::size_t(query * rows_ + row)]; }

 private:
  std::int64_t rows_;
  std::vector<int> counts_;
};

TEST(RangeWork, is_every_query_against_every_group) {
  const auto groups = cut_range_work(10, 4, 7, RangePairs::all, {});
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[2].rows, (io::Range{8, 10}));
  for (const RangeGroup& group : groups) EXPECT_EQ(group.queries, (std::vector<io::Range>{{0, 7}}));
}

TEST(RangeWork, of_pairs_once_has_no_query_behind_the_group) {
  const auto groups = cut_range_work(10, 4, 10, RangePairs::later, {});
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].queries, (std::vector<io::Range>{{0, 3}}));
  EXPECT_EQ(groups[2].queries, (std::vector<io::Range>{{0, 9}}));
  EXPECT_TRUE(cut_range_work(1, 4, 1, RangePairs::later, {}).empty());
}

TEST(RangeWork, that_is_done_leaves_nothing) {
  EXPECT_TRUE(cut_range_work(10, 4, 7, RangePairs::all, {{{0, 10}, {0, 7}, {}}}).empty());
}

TEST(RangeWork, stopped_anywhere_and_cut_anew_meets_every_row_once) {
  std::mt19937 random(5);
  for (const RangePairs pairs : {RangePairs::all, RangePairs::later})
    for (int trial = 0; trial < 200; ++trial) {
      constexpr std::int64_t kRows = 23;
      Meetings meetings(kRows, kRows);
      std::vector<Block> blocks;
      for (int run = 0; run < 30; ++run) {
        const auto per_group = std::int64_t(1 + random() % 12);
        const auto groups = cut_range_work(kRows, per_group, kRows, pairs, blocks);
        if (groups.empty()) break;
        auto left = run == 29 ? 1000U : 1 + random() % 9;  // pieces until this run is stopped
        const auto piece = std::int64_t(1 + random() % 7);
        for (const RangeGroup& group : groups)
          for (const io::Range queries : group.queries)
            for (std::int64_t begin = queries.begin; begin < queries.end && left > 0;
                 begin += piece, --left) {
              blocks.push_back({group.rows, {begin, std::min(queries.end, begin + piece)}, {}});
              meetings.add(blocks.back().rows, blocks.back().queries);
            }
      }
      EXPECT_TRUE(cut_range_work(kRows, 5, kRows, pairs, blocks).empty());
      for (std::int64_t q = 0; q < kRows; ++q)
        for (std::int64_t row = 0; row < kRows; ++row) {
          if (pairs == RangePairs::later && row <= q)
            EXPECT_LE(meetings.count(q, row), 1);
          else
            EXPECT_EQ(meetings.count(q, row), 1) << q << " " << row;
        }
    }
}

}  // namespace
}  // namespace mpishards::rank

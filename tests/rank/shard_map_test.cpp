#include "rank/shard_map.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.hpp"

namespace mpishards::rank {
namespace {

TEST(ShardMap, cuts_any_range_into_contiguous_shards_that_differ_by_at_most_one_row) {
  for (const int n_ranks : {1, 2, 3, 4, 7, 64})
    for (const std::int64_t count : {0L, 1L, 2L, 6L, 7L, 8L, 1000L, 3'000'000'001L}) {
      const ShardMap map({5, 5 + count}, n_ranks);
      std::int64_t next = 5;
      std::int64_t smallest = count;
      std::int64_t largest = 0;
      for (int r = 0; r < n_ranks; ++r) {
        const io::Range shard = map.shard(r);
        ASSERT_EQ(shard.begin, next);
        next = shard.end;
        smallest = std::min(smallest, shard.end - shard.begin);
        largest = std::max(largest, shard.end - shard.begin);
      }
      EXPECT_EQ(next, 5 + count);
      EXPECT_LE(largest - smallest, 1);
    }
}

TEST(ShardMap, finds_the_rank_of_every_row_and_skips_empty_shards) {
  const ShardMap map({10, 13}, 7);
  for (std::int64_t row = 10; row < 13; ++row) {
    const io::Range shard = map.shard(map.rank_of(row));
    EXPECT_LE(shard.begin, row);
    EXPECT_LT(row, shard.end);
  }
}

TEST(ShardMap, follows_weights) {
  const ShardMap map({0, 1000}, 3, {1.0, 2.0, 1.0});
  EXPECT_EQ(map.shard(0), (io::Range{0, 250}));
  EXPECT_EQ(map.shard(1), (io::Range{250, 750}));
  EXPECT_EQ(map.shard(2), (io::Range{750, 1000}));
}

TEST(ShardMap, refuses_weights_that_do_not_fit) {
  EXPECT_THROW(ShardMap({0, 10}, 2, {1.0}), Error);
  EXPECT_THROW(ShardMap({0, 10}, 2, {1.0, 0.0}), Error);
}

}  // namespace
}  // namespace mpishards::rank

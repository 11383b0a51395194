#pragma once

#include <cstdint>
#include <vector>

#include "io/journal.hpp"

namespace mpishards::rank {

/// Which rows of the base belong to which rank: contiguous shards in rank order, so that local order is
/// global order and ties fall the same way everywhere. Pure arithmetic: every rank computes the same map
/// without a message.
class ShardMap {
 public:
  /// @param rows     rows [rows.begin, rows.end) of the base, spread over the ranks
  /// @param weights  relative speed of each rank, > 0; empty: all equal
  /// @pre n_ranks >= 1; weights is empty or has n_ranks entries
  ShardMap(io::Range rows, int n_ranks, const std::vector<double>& weights = {});

  int n_ranks() const { return static_cast<int>(ends_.size()); }
  /// Rows of one rank; empty where there are more ranks than rows.
  io::Range shard(int rank) const;
  /// Rank that holds a row. @pre rows.begin <= row < rows.end @par Cost log n_ranks
  int rank_of(std::int64_t row) const;

 private:
  std::int64_t begin_ = 0;
  std::vector<std::int64_t> ends_;  // ends_[r]: first row behind rank r's shard
};

}  // namespace mpishards::rank

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/topk.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

/// Merges many sorted records of k entries into one row by a tournament (tree of losers): each entry taken
/// costs one comparison a level, log2 of the number of records, instead of two for a heap.
class MultiwayMerge {
 public:
  /// @pre n_records >= 1, k >= 1
  MultiwayMerge(std::int64_t n_records, std::int64_t k, Closer closer);

  /// @param records  n_records pointers to sorted records
  /// @param[out] out k entries, padding before; best first
  void merge(std::span<const std::byte* const> records, NeighborRow out);

 private:
  bool before(std::size_t a, std::size_t b) const {
    return closer_(heads_[a].id, heads_[a].distance, heads_[b].id, heads_[b].distance);
  }
  std::size_t play_all();
  std::size_t replay(std::size_t changed);

  std::int64_t k_;
  Closer closer_;
  std::vector<Entry> heads_;             // each record's best entry not yet taken
  std::vector<std::int64_t> positions_;  // and its place in the record
  std::vector<std::size_t>
      losers_;  // losers_[node], node >= 1: the record that lost there; record r enters at n + r
  std::vector<std::size_t> winners_;  // scratch of play_all
};

/// Merges `n_parts` runs of `count` records, run p at in + p * count records, into rows [0, count) of `out`.
/// @pre out is padding
void merge_runs(const std::byte* in, std::int64_t n_parts, std::int64_t count, TopK& out);

}  // namespace mpishards::merge

#include "merge/slices.hpp"

#include <algorithm>

#include "core/narrow.hpp"
#include "merge/merge_strategy.hpp"

namespace mpishards::merge {

Slice slice_of(std::int64_t nq, int rank, int n_ranks) {
  const std::int64_t share = nq / n_ranks;
  const std::int64_t longer = nq % n_ranks;  // the first ranks have one more
  const std::int64_t begin = rank * share + std::min<std::int64_t>(rank, longer);
  return {begin, begin + share + (rank < longer ? 1 : 0)};
}

RecordCounts::RecordCounts(std::int64_t nq, int n_ranks) {
  for (int rank = 0; rank < n_ranks; ++rank) {
    const Slice slice = slice_of(nq, rank, n_ranks);
    counts.push_back(narrow<int>(slice.size()));
    offsets.push_back(narrow<int>(slice.begin));
  }
}

}  // namespace mpishards::merge

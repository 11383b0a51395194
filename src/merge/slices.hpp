#pragma once

#include <cstdint>
#include <vector>

namespace mpishards::merge {

/// Every rank's slice of nq queries as MPI wants them: counts and offsets in records, not bytes, so that they
/// stay int.
struct RecordCounts {
  /// @throws Error{internal} if nq does not fit an int
  RecordCounts(std::int64_t nq, int n_ranks);

  std::vector<int> counts;
  std::vector<int> offsets;
};

}  // namespace mpishards::merge

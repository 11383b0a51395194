#pragma once

#include <cstdint>
#include <iterator>
#include <vector>

#include "core/types.hpp"

namespace mpishards {

/// All rows within a distance of each of nq queries, as a sparse matrix: row q's hits are the entries
/// [offsets[q], offsets[q + 1]), best first (Closer).
struct RangeHits {
  std::vector<std::int64_t> offsets = {0};  // nq + 1
  std::vector<GlobalId> neighbors;
  std::vector<float> distances;

  std::int64_t nq() const { return std::ssize(offsets) - 1; }
  /// Also where the hits themselves were too many to be kept.
  std::int64_t count() const { return offsets.back(); }

  friend bool operator==(const RangeHits&, const RangeHits&) = default;
};

}  // namespace mpishards

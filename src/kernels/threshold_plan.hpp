#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

// How candidates are gathered, whatever screens them.
namespace mpishards::kernels {

/// Candidates that a query holds between two prunings: the more there are, the less a pruning costs each.
inline std::int64_t candidate_room(std::int64_t k) {
  return k <= 1024 ? std::max<std::int64_t>(128, 4 * k) : 2 * k;
}

/// Rows that seed the thresholds: a small part of the work, and enough of them for a useful k-th best.
inline std::int64_t threshold_sample_rows(std::int64_t nb, std::int64_t k) {
  const std::int64_t rows =
      std::max(std::max<std::int64_t>(1024, 4 * k), std::min<std::int64_t>(nb / 64, 8192));
  if (rows * 8 <= nb) return rows;
  // Of few rows, too: each sampled one is a candidate, and k * nb / few others stay.
  const auto few = static_cast<std::int64_t>(std::sqrt(static_cast<double>(k) * static_cast<double>(nb)));
  return few * 8 <= nb ? few : 0;
}

}  // namespace mpishards::kernels

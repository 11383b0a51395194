#pragma once

#include <cstdint>

#include "core/metric.hpp"

namespace mpishards::rank {

/// Distance in double by plain sums, for checks: shares no code with kernels.
double distance_of(Metric metric, const float* query, const float* row, std::int64_t d);

/// Whether two float32 are equal or neighbors.
bool within_one_ulp(float a, float b);

}  // namespace mpishards::rank

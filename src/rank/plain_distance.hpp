#pragma once

#include <cstdint>

#include "core/metric.hpp"

namespace mpishards::rank {

/// Distance in double by plain sums: shares no code with kernels, so that it can check them.
double distance_of(Metric metric, const float* query, const float* row, std::int64_t d);

/// Whether two float32 are equal or neighbors.
bool within_one_ulp(float a, float b);

}  // namespace mpishards::rank

#pragma once

#include <memory>

#include "kernels/cuda_search_plan.hpp"
#include "kernels/index.hpp"

namespace mpishards::kernels::cuda {

/// Index type `flat` on a GPU: screened in binary16 on tensor cores, re-ranked in double from the stored
/// rows.
///
/// The twin of cpu::make_flat: the same answers to the bit, by the same proof with another bound
/// (half_bound.hpp).
/// @throws Error{unavailable} without a device or the libraries, Error{cuda}
std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options);
std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options, const CudaOverrides& overrides);

}  // namespace mpishards::kernels::cuda

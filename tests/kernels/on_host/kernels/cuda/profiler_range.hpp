#pragma once

namespace mpishards::kernels::cuda {

/// Stands in for the range of NVTX.
struct ProfilerRange {
  explicit ProfilerRange(const char*) {}
};

}  // namespace mpishards::kernels::cuda

#pragma once

#include <nvtx3/nvToolsExt.h>

namespace mpishards::kernels::cuda {

/// A range that profilers show, under the name that the timers have. Costs nothing without a profiler.
class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name) { nvtxRangePushA(name); }
  ~ProfilerRange() { nvtxRangePop(); }
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace mpishards::kernels::cuda

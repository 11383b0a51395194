#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mpishards::kernels {

/// One GPU as the driver reports it.
struct GpuDevice {
  std::string name;
  std::string uuid;  // "GPU-<hex>", as nvidia-smi prints it
  std::int64_t memory_bytes = 0;
  std::string compute_capability;  // "9.0"
};

/// GPUs that this process may use, by device ordinal; never throws for want of one.
/// @param[out] why_none  the reason where the list is empty, else empty
std::vector<GpuDevice> list_gpus(std::string& why_none);

}  // namespace mpishards::kernels

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

/// The device of one of a host's processes, and how many of them share it.
struct DevicePlace {
  int device = 0;
  int ranks = 1;
};

/// Devices are dealt out in turn. @pre 0 <= host_rank < host_ranks @return the default for n_devices = 0
DevicePlace device_place(int host_rank, int host_ranks, int n_devices);

}  // namespace mpishards::kernels

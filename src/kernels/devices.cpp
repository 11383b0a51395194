#include "kernels/devices.hpp"

#if defined(MPISHARDS_HAVE_CUDA)
#include "kernels/cuda/device.hpp"
#endif

namespace mpishards::kernels {

std::vector<GpuDevice> list_gpus(std::string& why_none) {
#if defined(MPISHARDS_HAVE_CUDA)
  return cuda::list_devices(why_none);
#else
  why_none = "this build has no CUDA support (MPISHARDS_WITH_CUDA)";
  return {};
#endif
}

DevicePlace device_place(int host_rank, int host_ranks, int n_devices) {
  if (n_devices < 1) return {};
  const int device = host_rank % n_devices;
  return {device, (host_ranks - device + n_devices - 1) / n_devices};
}

}  // namespace mpishards::kernels

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

}  // namespace mpishards::kernels

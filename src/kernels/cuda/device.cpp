#include "kernels/cuda/device.hpp"

#include <cuda_runtime_api.h>

#include <string_view>

namespace mpishards::kernels::cuda {
namespace {

/// "GPU-" and 32 hex digits in groups of 8-4-4-4-12.
std::string uuid_text(const cudaUUID_t& uuid) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(uuid.bytes[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

std::vector<GpuDevice> list_devices(std::string& why_none) {
  why_none.clear();
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    why_none = error == cudaSuccess ? "the CUDA driver reports no device" : cudaGetErrorString(error);
    return {};
  }
  std::vector<GpuDevice> devices;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (const cudaError_t failed = cudaGetDeviceProperties(&properties, device); failed != cudaSuccess) {
      why_none = std::string("device ") + std::to_string(device) + ": " + cudaGetErrorString(failed);
      return {};
    }
    devices.push_back({properties.name, uuid_text(properties.uuid),
                       static_cast<std::int64_t>(properties.totalGlobalMem),
                       std::to_string(properties.major) + "." + std::to_string(properties.minor)});
  }
  return devices;
}

}  // namespace mpishards::kernels::cuda

#include "kernels/cuda/check.hpp"

#include <cuda_runtime_api.h>

#include <string>

#include "core/error.hpp"

namespace mpishards::kernels::cuda {
namespace {

/// What a user can do something about.
std::string remedy(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "; give the rank a smaller --memory, or use more ranks";
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
      return "; use --engine cpu, or a node with a GPU";
    case cudaErrorDevicesUnavailable:
      return "; another process holds the device";
    case cudaErrorNoKernelImageForDevice:
      return "; this build has kernels for compute capability 8.0 and later";
    default:
      return "";
  }
}

bool is_unavailable(cudaError_t error) {
  return error == cudaErrorMemoryAllocation || error == cudaErrorNoDevice ||
         error == cudaErrorInsufficientDriver || error == cudaErrorInitializationError ||
         error == cudaErrorDevicesUnavailable || error == cudaErrorNoKernelImageForDevice;
}

}  // namespace

void check_cuda(int code, const char* call, std::source_location at) {
  const auto error = static_cast<cudaError_t>(code);
  if (error == cudaSuccess) return;
  throw Error(is_unavailable(error) ? ErrorKind::unavailable : ErrorKind::cuda,
              std::string(call) + ": " + cudaGetErrorString(error) + remedy(error), at);
}

}  // namespace mpishards::kernels::cuda

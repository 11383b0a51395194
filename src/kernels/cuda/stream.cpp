#include "kernels/cuda/stream.hpp"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.hpp"

namespace mpishards::kernels::cuda {

Stream Stream::create(int device) {
  check_cuda(cudaSetDevice(device), "cudaSetDevice");
  Stream stream;
  stream.device_ = device;
  check_cuda(cudaStreamCreateWithFlags(&stream.handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

Stream::~Stream() {
  // A stream that can't be released has failed before, and said so.
  if (handle_ != nullptr) cudaStreamDestroy(handle_);
}

void Stream::use_device() const {
  check_cuda(cudaSetDevice(device_), "cudaSetDevice");
}

void Stream::wait() const {
  check_cuda(cudaStreamSynchronize(handle_), "cudaStreamSynchronize");
}

}  // namespace mpishards::kernels::cuda

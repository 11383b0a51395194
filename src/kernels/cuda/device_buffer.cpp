#include "kernels/cuda/device_buffer.hpp"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.hpp"

namespace mpishards::kernels::cuda {

DeviceMemory DeviceMemory::allocate(const Stream& stream, std::size_t bytes) {
  DeviceMemory memory;
  memory.device_ = stream.device();
  if (bytes == 0) return memory;
  stream.use_device();
  check_cuda(cudaMalloc(&memory.data_, bytes), "cudaMalloc");
  memory.bytes_ = bytes;
  return memory;
}

DeviceMemory DeviceMemory::pinned(const Stream& stream, std::size_t bytes) {
  DeviceMemory memory;
  memory.kind_ = Kind::pinned;
  memory.device_ = stream.device();
  if (bytes == 0) return memory;
  stream.use_device();
  check_cuda(cudaHostAlloc(&memory.data_, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  memory.bytes_ = bytes;
  return memory;
}

DeviceMemory DeviceMemory::registered(const Stream& stream, const void* host, std::size_t bytes) {
  DeviceMemory memory;
  memory.kind_ = Kind::registered;
  memory.device_ = stream.device();
  if (bytes == 0) return memory;
  stream.use_device();
  void* const pages = const_cast<void*>(host);  // only read; CUDA's signature has no way to say so
  check_cuda(cudaHostRegister(pages, bytes, cudaHostRegisterMapped), "cudaHostRegister");
  memory.host_ = pages;
  memory.bytes_ = bytes;
  check_cuda(cudaHostGetDevicePointer(&memory.data_, pages, 0), "cudaHostGetDevicePointer");
  return memory;
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr && host_ == nullptr) return;
  // What can't be released has failed before, and said so.
  cudaSetDevice(device_);
  if (kind_ == Kind::device) cudaFree(data_);
  if (kind_ == Kind::pinned) cudaFreeHost(data_);
  if (kind_ == Kind::registered) cudaHostUnregister(host_);
}

void copy_to_device(const Stream& stream, void* device, const void* host, std::size_t bytes) {
  check_cuda(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream.get()), "cudaMemcpyAsync");
}

void copy_to_host(const Stream& stream, void* host, const void* device, std::size_t bytes) {
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream.get()), "cudaMemcpyAsync");
}

void fill_zero(const Stream& stream, void* device, std::size_t bytes) {
  check_cuda(cudaMemsetAsync(device, 0, bytes, stream.get()), "cudaMemsetAsync");
}

DeviceFacts device_facts(const Stream& stream) {
  stream.use_device();
  std::size_t free_bytes = 0;
  std::size_t all_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &all_bytes), "cudaMemGetInfo");
  DeviceFacts facts;
  facts.free_bytes = static_cast<std::int64_t>(free_bytes);
  check_cuda(cudaDeviceGetAttribute(&facts.multiprocessors, cudaDevAttrMultiProcessorCount, stream.device()),
             "cudaDeviceGetAttribute");
  int shared_bytes = 0;
  check_cuda(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device()),
             "cudaDeviceGetAttribute");
  facts.shared_bytes = shared_bytes;
  return facts;
}

}  // namespace mpishards::kernels::cuda

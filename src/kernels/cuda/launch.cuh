#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/narrow.hpp"
#include "kernels/cuda/check.hpp"
#include "kernels/cuda/stream.hpp"

namespace mpishards::kernels::cuda {

/// Blocks of a grid.
struct Grid {
  std::int64_t x = 1;
  std::int64_t y = 1;
};

/// The block's memory whose size the launch decides. Aligned to 16 bytes.
__device__ inline std::byte* dynamic_shared_memory() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<std::byte*>(memory);
}

/// Puts a kernel into the stream. @param name  for messages @param shared_bytes  of dynamic_shared_memory()
/// @throws Error{cuda}
template <class... Parameters, class... Arguments>
void launch(const char* name, const Stream& stream, Grid grid, int threads, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  constexpr std::size_t kUnasked = 48 * 1024;  // more has to be asked for
  if (shared_bytes > kUnasked)
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, narrow<int>(shared_bytes)),
        name);
  cudaLaunchConfig_t config{};
  config.dynamicSmemBytes = shared_bytes;
  config.gridDim = dim3(narrow<unsigned>(grid.x), narrow<unsigned>(grid.y), 1);
  config.blockDim = dim3(narrow<unsigned>(threads), 1, 1);
  config.stream = stream.get();
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace mpishards::kernels::cuda

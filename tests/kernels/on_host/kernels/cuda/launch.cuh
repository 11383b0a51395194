#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/narrow.hpp"
#include "kernels/cuda/stream.hpp"
#include "on_host/fibers.hpp"

// Stands in for kernels/cuda/launch.cuh and the words of CUDA, so that kernels compile for the host.
#define __global__
#define __device__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx mpishards::on_host::thread_index()
#define blockIdx mpishards::on_host::block_index()
#define gridDim mpishards::on_host::grid_size()

inline void __syncthreads() {
  mpishards::on_host::wait_for_block();
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  std::uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  const unsigned lane = mpishards::on_host::thread_index().x % 32;
  bits = mpishards::on_host::exchange_in_warp(bits)[lane ^ static_cast<unsigned>(lanes)];
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned __ballot_sync(unsigned, bool vote) {
  const std::uint64_t* const votes = mpishards::on_host::exchange_in_warp(vote ? 1 : 0);
  unsigned all = 0;
  for (unsigned lane = 0; lane < 32; ++lane) all |= static_cast<unsigned>(votes[lane]) << lane;
  return all;
}

inline int __popc(unsigned bits) {
  return std::popcount(bits);
}

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}

namespace mpishards::on_host {

struct alignas(16) SixteenBytes {
  std::byte bytes[16] = {};
};
inline std::vector<SixteenBytes> dynamic_shared;

}  // namespace mpishards::on_host

namespace mpishards::kernels::cuda {

inline std::byte* dynamic_shared_memory() {
  return reinterpret_cast<std::byte*>(on_host::dynamic_shared.data());
}

struct Grid {
  std::int64_t x = 1;
  std::int64_t y = 1;
};

template <class... Parameters, class... Arguments>
void launch(const char*, const Stream&, Grid grid, int threads, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  on_host::dynamic_shared.assign((shared_bytes + 15) / 16, {});
  on_host::run_grid({narrow<unsigned>(grid.x), narrow<unsigned>(grid.y)}, narrow<unsigned>(threads),
                    [&] { kernel(arguments...); });
}

}  // namespace mpishards::kernels::cuda

#pragma once

#include <cstdint>
#include <cstring>

#include "core/half.hpp"
#include "on_host/fibers.hpp"

// Stands in for kernels/cuda/tensor_core.cuh: the same functions by plain loops, as its comments define them.
namespace mpishards::kernels::cuda {

inline void copy_async_16(void* shared, const void* global, bool is_there) {
  if (is_there)
    std::memcpy(shared, global, 16);
  else
    std::memset(shared, 0, 16);
}
inline void commit_copies() {}
template <int kGroups>
void wait_for_copies() {}

inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  const unsigned lane = on_host::thread_index().x % 32;
  std::uint64_t rows[32];
  std::memcpy(rows, on_host::exchange_in_warp(reinterpret_cast<std::uintptr_t>(row)), sizeof rows);
  for (unsigned matrix = 0; matrix < 4; ++matrix)
    std::memcpy(&to[matrix], reinterpret_cast<const char*>(rows[matrix * 8 + lane / 4]) + 4 * (lane % 4), 4);
}

inline void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                         std::uint32_t b_high) {
  const unsigned lane = on_host::thread_index().x % 32;
  std::uint32_t all_a[4][32];
  std::uint32_t all_b[2][32];
  const auto gather = [](std::uint32_t own, std::uint32_t(&all)[32]) {
    const std::uint64_t* const values = on_host::exchange_in_warp(own);
    for (int t = 0; t < 32; ++t) all[t] = static_cast<std::uint32_t>(values[t]);
  };
  for (int part = 0; part < 4; ++part) gather(a[part], all_a[part]);
  gather(b_low, all_b[0]);
  gather(b_high, all_b[1]);
  const auto value = [](std::uint32_t pair, unsigned place) {
    return half_to_float(static_cast<std::uint16_t>(pair >> (16 * place)));
  };
  for (unsigned part = 0; part < 4; ++part) {
    const unsigned row = lane / 4 + part / 2 * 8;
    const unsigned column = lane % 4 * 2 + part % 2;
    float sum = sums[part];
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned holder = i % 8 / 2;
      const float left = value(all_a[row / 8 + i / 8 * 2][row % 8 * 4 + holder], i % 2);
      const float right = value(all_b[i / 8][column * 4 + holder], i % 2);
      sum += left * right;
    }
    sums[part] = sum;
  }
}

}  // namespace mpishards::kernels::cuda

#pragma once

#include <cstdint>

// Instructions that C++ has no words for, of compute capability 8.0 and later. All threads of a warp call
// them together.
namespace mpishards::kernels::cuda {

/// Begins to copy 16 bytes to shared memory; zeros where !is_there. @pre both addresses are multiples of 16
__device__ inline void copy_async_16(void* shared, const void* global, bool is_there) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = is_there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}

/// Closes a group of copies.
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/// Waits until no more than kGroups of the groups that this thread closed are under way.
template <int kGroups>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
}

/// Four 8 x 8 matrices of 16-bit values from shared memory. Thread t names row t % 8 of matrix t / 8 and
/// gets, of each matrix, values 2 * (t % 4) and the next one of row t / 4.
__device__ inline void load_matrices(std::uint32_t (&to)[4], const void* row) {
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

/// sums (16 x 8, float32) += a (16 x 16) * b (16 x 8), both binary16. Thread t holds, with g = t / 4 and c =
/// 2 (t % 4): of sums rows g, g + 8 at columns c, c + 1; of a rows g, g + 8 at columns c, c + 1, then both at
/// c + 8, c + 9; of b column g at rows c, c + 1, then c + 8, c + 9.
__device__ inline void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b_low,
                                    std::uint32_t b_high) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

}  // namespace mpishards::kernels::cuda

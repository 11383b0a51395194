#pragma once

#include <cstddef>
#include <cstdint>

// Sizes of the CUDA kernel that multiplies and filters at once, for the kernel and for plans.
namespace mpishards::kernels::cuda {

/// Queries and base rows of one block's tile.
inline constexpr int kFusedQueries = 128;
inline constexpr int kFusedRows = 128;
/// Tiles of base rows in shared memory: one is multiplied, the next one copied.
inline constexpr int kFusedStages = 2;
/// Values between rows in shared memory: with rows of an even number of 16-byte pieces, one more piece puts
/// the rows that are read together into different banks.
inline constexpr int kFusedPadding = 8;

/// Shared memory of a block. @param cols  of the planes, a multiple of kPlaneAlignment
constexpr std::size_t fused_shared_bytes(std::int64_t cols) {
  const auto pitch = static_cast<std::size_t>(cols) + kFusedPadding;
  return (kFusedQueries + kFusedStages * kFusedRows) * pitch * sizeof(std::uint16_t) +
         (kFusedStages * kFusedRows + 2 * kFusedQueries) * sizeof(float);
}

}  // namespace mpishards::kernels::cuda

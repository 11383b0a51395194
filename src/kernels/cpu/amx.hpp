#pragma once

#include "kernels/cpu/avx512.hpp"
#include "kernels/cpu/plane.hpp"

#if defined(MPISHARDS_X86_64)
/// Kernels for the tiles of AMX, and AVX-512 beside them; call only where is_supported().
namespace mpishards::kernels::cpu::amx {

/// Asks the kernel for the tile registers of this process, once.
bool is_supported();

CenteredSums subtract_center(const float* x, double factor, const float* center, std::int64_t d,
                             double* values);

PackedSquares quantize(PlaneType type, const double* values, std::int64_t row_tiles, double scale,
                       std::byte* bytes);

void interleave(const std::byte* rows, std::int64_t row_tiles, std::byte* out);

std::int64_t scratch_bytes(std::int64_t n_queries, std::int64_t row_tiles);

/// 32 rows x 32 queries at a time in four registers of sums; rows of one or two tiles 16 x 32 at a time, by
/// queries that stay in registers.
///
/// A tile's rows are base rows and its columns queries, so that the largest sums of 16 rows are found, and
/// compared with 16 thresholds, without any work across lanes; that work on one block lies between the
/// products of the next one. A strip of rows stays in L1 while all queries of the chunk, in L2, pass over it.
void screen(const PlaneTile& tile, CandidateSink& sink);

void kth_largest(const float* values, std::int64_t rows, std::int64_t k, float* out);

inline constexpr PlaneScreen kPlaneScreen = {"own tiles of bfloat16 or bytes",
                                             subtract_center,
                                             quantize,
                                             interleave,
                                             scratch_bytes,
                                             screen,
                                             kth_largest};

}  // namespace mpishards::kernels::cpu::amx
#endif

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/screen.hpp"

#if defined(__x86_64__)
#define MPISHARDS_X86_64 1
#endif

#if defined(MPISHARDS_X86_64)
/// Kernels for AVX2 with FMA; call only where is_supported().
namespace mpishards::kernels::cpu::avx2 {

bool is_supported();

/// The defined sums of distance.hpp, bit for bit.
double dot_product(const float* a, const float* b, std::int64_t d);
double l2_squared(const float* a, const float* b, std::int64_t d);
/// The same of one vector with several rows, bit for bit, sooner.
void dot_products(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
void l2_squares(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
void byte_products(const float* weights, const std::byte* bytes, std::int64_t rows, std::int64_t d,
                   float* out);

/// Register blocks of 6 rows x 16 queries, or 12 x 8; scores are compared in registers and leave them only on
/// a hit.
///
/// Queries are packed once a chunk, 16 side by side, the last 8 or fewer 8 side by side. Base rows are read
/// as they are stored, so that few queries cost little more than reading the rows, in blocks that stay in L2
/// while all queries of the chunk pass over them.
std::int64_t packed_query_floats(std::int64_t nq, std::int64_t d);
void pack_queries(MatrixView<const float> queries, float* packed);
std::int64_t scratch_floats(std::int64_t nq, std::int64_t base_rows, std::int64_t d);
void screen(const ScreenTile& tile, CandidateSink& sink);

inline constexpr Screen kScreen = {packed_query_floats, pack_queries, scratch_floats, screen};

}  // namespace mpishards::kernels::cpu::avx2
#endif

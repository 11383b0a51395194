#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/avx2.hpp"
#include "kernels/cpu/screen.hpp"

#if defined(MPISHARDS_X86_64)
/// Kernels for AVX-512 (F, BW, DQ, VL); call only where is_supported().
namespace mpishards::kernels::cpu::avx512 {

bool is_supported();

/// The defined sums of distance.hpp, bit for bit.
double dot_product(const float* a, const float* b, std::int64_t d);
double l2_squared(const float* a, const float* b, std::int64_t d);
/// The same of one vector with several rows, bit for bit, sooner.
void dot_products(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
void l2_squares(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
std::int64_t u8_dot_product(const std::byte* a, const std::byte* b, std::int64_t d);
std::int64_t u8_l2_squared(const std::byte* a, const std::byte* b, std::int64_t d);
std::int64_t i8_dot_product(const std::byte* a, const std::byte* b, std::int64_t d);
std::int64_t i8_l2_squared(const std::byte* a, const std::byte* b, std::int64_t d);
/// By halving the range of the values.
float kth_largest(float* values, std::int64_t count, std::int64_t k);

/// As avx2.hpp says, by register blocks of 6 rows x 64 queries, or 12 x 16.
std::int64_t packed_query_floats(std::int64_t nq, std::int64_t d);
void pack_queries(MatrixView<const float> queries, float* packed);
std::int64_t scratch_floats(std::int64_t nq, std::int64_t base_rows, std::int64_t d);
void screen(const ScreenTile& tile, CandidateSink& sink);

inline constexpr Screen kScreen = {packed_query_floats, pack_queries, scratch_floats, screen};

}  // namespace mpishards::kernels::cpu::avx512
#endif

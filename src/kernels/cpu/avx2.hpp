#pragma once

#include <cstdint>

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

void screen(const ScreenTile& tile, CandidateSink& sink);

}  // namespace mpishards::kernels::cpu::avx2
#endif

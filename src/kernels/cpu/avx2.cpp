#include "kernels/cpu/avx2.hpp"

#if defined(MPISHARDS_X86_64)
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#define MPISHARDS_SIMD __attribute__((target("avx2,fma")))

namespace mpishards::kernels::cpu::avx2 {
namespace {

/// Lanes 0-3 and 4-7 of a LaneSum.
struct Lanes {
  __m256d low;
  __m256d high;
};

MPISHARDS_SIMD inline Lanes widen(__m256 values) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(values)), _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1))};
}

/// Elements past `count` are zero: a lane that adds fma(0, 0, sum) keeps its bits, for no sum is -0.
MPISHARDS_SIMD inline __m256 load_part(const float* values, std::int64_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
  return _mm256_maskload_ps(values, mask);
}

MPISHARDS_SIMD inline double total(Lanes sum) {
  const __m256d four = _mm256_add_pd(sum.low, sum.high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

struct Product {
  MPISHARDS_SIMD static inline void add(Lanes& sum, __m256 a, __m256 b) {
    const Lanes wide_a = widen(a);
    const Lanes wide_b = widen(b);
    sum.low = _mm256_fmadd_pd(wide_a.low, wide_b.low, sum.low);
    sum.high = _mm256_fmadd_pd(wide_a.high, wide_b.high, sum.high);
  }
};

struct SquaredDifference {
  MPISHARDS_SIMD static inline void add(Lanes& sum, __m256 a, __m256 b) {
    const Lanes wide_a = widen(a);
    const Lanes wide_b = widen(b);
    const __m256d low = _mm256_sub_pd(wide_a.low, wide_b.low);
    const __m256d high = _mm256_sub_pd(wide_a.high, wide_b.high);
    sum.low = _mm256_fmadd_pd(low, low, sum.low);
    sum.high = _mm256_fmadd_pd(high, high, sum.high);
  }
};

template <class Term>
MPISHARDS_SIMD inline double sum_terms(const float* a, const float* b, std::int64_t d) {
  Lanes sum{_mm256_setzero_pd(), _mm256_setzero_pd()};
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) Term::add(sum, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
  if (i < d) Term::add(sum, load_part(a + i, d - i), load_part(b + i, d - i));
  return total(sum);
}

/// Several rows at once, whose sums don't wait for each other.
template <class Term, int kRows>
MPISHARDS_SIMD inline void sum_rows(const float* a, const float* const* rows, std::int64_t d, double* out) {
  Lanes sums[kRows];
  for (Lanes& sum : sums) sum = {_mm256_setzero_pd(), _mm256_setzero_pd()};
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) {
    const __m256 values = _mm256_loadu_ps(a + i);
    for (int r = 0; r < kRows; ++r) Term::add(sums[r], values, _mm256_loadu_ps(rows[r] + i));
  }
  if (i < d) {
    const __m256 values = load_part(a + i, d - i);
    for (int r = 0; r < kRows; ++r) Term::add(sums[r], values, load_part(rows[r] + i, d - i));
  }
  for (int r = 0; r < kRows; ++r) out[r] = total(sums[r]);
}

/// Eight bytes, or `count` of them and zeros, as float32.
MPISHARDS_SIMD inline __m256 widen_bytes(const std::byte* bytes, std::int64_t count) {
  std::uint64_t eight = 0;
  std::memcpy(&eight, bytes, static_cast<std::size_t>(count));
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(eight))));
}

MPISHARDS_SIMD inline float total(__m256 sum) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// Several rows at once, whose sums don't wait for each other.
template <int kRows>
MPISHARDS_SIMD inline void multiply_byte_rows(const float* weights, const std::byte* bytes, std::int64_t d,
                                              float* out) {
  __m256 sums[kRows];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) {
    const __m256 weight = _mm256_loadu_ps(weights + i);
    for (int r = 0; r < kRows; ++r)
      sums[r] = _mm256_add_ps(sums[r], _mm256_mul_ps(weight, widen_bytes(bytes + r * d + i, 8)));
  }
  if (i < d) {
    const __m256 weight = load_part(weights + i, d - i);
    for (int r = 0; r < kRows; ++r)
      sums[r] = _mm256_add_ps(sums[r], _mm256_mul_ps(weight, widen_bytes(bytes + r * d + i, d - i)));
  }
  for (int r = 0; r < kRows; ++r) out[r] = total(sums[r]);
}

struct Simd {
  using Floats = __m256;
  using Hits = __m256;
  static constexpr std::int64_t kLanes = 8;
  static constexpr int kPanelVectors = 2;

  MPISHARDS_SIMD static inline Floats zero() { return _mm256_setzero_ps(); }
  MPISHARDS_SIMD static inline Floats one() { return _mm256_set1_ps(1); }
  MPISHARDS_SIMD static inline Floats load(const float* values) { return _mm256_load_ps(values); }
  MPISHARDS_SIMD static inline Floats broadcast(const float* value) { return _mm256_broadcast_ss(value); }
  MPISHARDS_SIMD static inline void store(float* values, Floats a) { _mm256_store_ps(values, a); }
  MPISHARDS_SIMD static inline Floats fmadd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

  MPISHARDS_SIMD static inline Hits no_hits() { return _mm256_setzero_ps(); }
  MPISHARDS_SIMD static inline Hits hits(Floats scores, Floats thresholds) {
    return _mm256_cmp_ps(scores, thresholds, _CMP_NLT_UQ);
  }
  MPISHARDS_SIMD static inline Hits either(Hits a, Hits b) { return _mm256_or_ps(a, b); }
  MPISHARDS_SIMD static inline std::uint32_t lanes_of(Hits hits) {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(hits));
  }
};

}  // namespace

bool is_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

MPISHARDS_SIMD double dot_product(const float* a, const float* b, std::int64_t d) {
  return sum_terms<Product>(a, b, d);
}

MPISHARDS_SIMD double l2_squared(const float* a, const float* b, std::int64_t d) {
  return sum_terms<SquaredDifference>(a, b, d);
}

MPISHARDS_SIMD void byte_products(const float* weights, const std::byte* bytes, std::int64_t rows,
                                  std::int64_t d, float* out) {
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) multiply_byte_rows<4>(weights, bytes + row * d, d, out + row);
  for (; row < rows; ++row) multiply_byte_rows<1>(weights, bytes + row * d, d, out + row);
}

#include "kernels/cpu/float_screen.inl.hpp"
#include "kernels/cpu/row_sums.inl.hpp"

}  // namespace mpishards::kernels::cpu::avx2
#undef MPISHARDS_SIMD
#endif

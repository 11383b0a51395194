#include "kernels/cpu/avx512.hpp"

#if defined(MPISHARDS_X86_64)
#if !defined(__clang__)
// GCC 12 takes the undefined sources of unmasked intrinsics for a mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <bit>
#include <limits>

#define MPISHARDS_SIMD __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

namespace mpishards::kernels::cpu::avx512 {
namespace {

/// Eight values, or `count` of them and zeros: a lane that adds fma(0, 0, sum) keeps its bits, for no sum is
/// -0.
MPISHARDS_SIMD inline __m512d load_wide(const float* values, std::int64_t count) {
  const auto mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1);
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, values));
}

/// The eight lanes of a LaneSum, added in its order.
MPISHARDS_SIMD inline double total(__m512d sum) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd(sum, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

struct Product {
  MPISHARDS_SIMD static inline __m512d add(__m512d sum, __m512d a, __m512d b) {
    return _mm512_fmadd_pd(a, b, sum);
  }
};

struct SquaredDifference {
  MPISHARDS_SIMD static inline __m512d add(__m512d sum, __m512d a, __m512d b) {
    const __m512d difference = _mm512_sub_pd(a, b);
    return _mm512_fmadd_pd(difference, difference, sum);
  }
};

template <class Term>
MPISHARDS_SIMD inline double sum_terms(const float* a, const float* b, std::int64_t d) {
  __m512d sum = _mm512_setzero_pd();
  for (std::int64_t i = 0; i < d; i += 8)
    sum = Term::add(sum, load_wide(a + i, d - i), load_wide(b + i, d - i));
  return total(sum);
}

struct Simd {
  using Floats = __m512;
  using Hits = __mmask16;
  static constexpr std::int64_t kLanes = 16;
  static constexpr int kPanelVectors = 4;

  MPISHARDS_SIMD static inline Floats zero() { return _mm512_setzero_ps(); }
  MPISHARDS_SIMD static inline Floats one() { return _mm512_set1_ps(1); }
  MPISHARDS_SIMD static inline Floats load(const float* values) { return _mm512_load_ps(values); }
  MPISHARDS_SIMD static inline Floats broadcast(const float* value) { return _mm512_set1_ps(*value); }
  MPISHARDS_SIMD static inline void store(float* values, Floats a) { _mm512_store_ps(values, a); }
  MPISHARDS_SIMD static inline Floats fmadd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

  MPISHARDS_SIMD static inline Hits no_hits() { return 0; }
  MPISHARDS_SIMD static inline Hits hits(Floats scores, Floats thresholds) {
    return _mm512_cmp_ps_mask(scores, thresholds, _CMP_NLT_UQ);
  }
  MPISHARDS_SIMD static inline Hits either(Hits a, Hits b) { return static_cast<Hits>(a | b); }
  MPISHARDS_SIMD static inline std::uint32_t lanes_of(Hits hits) { return hits; }
};

}  // namespace

bool is_supported() {
  return avx2::is_supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

MPISHARDS_SIMD double dot_product(const float* a, const float* b, std::int64_t d) {
  return sum_terms<Product>(a, b, d);
}

MPISHARDS_SIMD double l2_squared(const float* a, const float* b, std::int64_t d) {
  return sum_terms<SquaredDifference>(a, b, d);
}

#include "kernels/cpu/float_screen.inl.hpp"

}  // namespace mpishards::kernels::cpu::avx512
#undef MPISHARDS_SIMD
#endif

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

MPISHARDS_SIMD inline __m512d load_wide(const float* values) {
  return _mm512_cvtps_pd(_mm256_loadu_ps(values));
}

/// `count` values and zeros: a lane that adds fma(0, 0, sum) keeps its bits, for no sum is -0.
MPISHARDS_SIMD inline __m512d load_wide(const float* values, std::int64_t count) {
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(static_cast<__mmask8>((1 << count) - 1), values));
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
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) sum = Term::add(sum, load_wide(a + i), load_wide(b + i));
  if (i < d) sum = Term::add(sum, load_wide(a + i, d - i), load_wide(b + i, d - i));
  return total(sum);
}

/// Several rows at once, whose sums don't wait for each other.
template <class Term, int kRows>
MPISHARDS_SIMD inline void sum_rows(const float* a, const float* const* rows, std::int64_t d, double* out) {
  __m512d sums[kRows];
  for (__m512d& sum : sums) sum = _mm512_setzero_pd();
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) {
    const __m512d wide = load_wide(a + i);
    for (int r = 0; r < kRows; ++r) sums[r] = Term::add(sums[r], wide, load_wide(rows[r] + i));
  }
  if (i < d) {
    const __m512d wide = load_wide(a + i, d - i);
    for (int r = 0; r < kRows; ++r) sums[r] = Term::add(sums[r], wide, load_wide(rows[r] + i, d - i));
  }
  for (int r = 0; r < kRows; ++r) out[r] = total(sums[r]);
}

template <bool kSigned>
MPISHARDS_SIMD inline __m512i load_bytes(const std::byte* values, __mmask32 mask) {
  const __m256i bytes = _mm256_maskz_loadu_epi8(mask, values);
  return kSigned ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes);
}

struct WholeProduct {
  MPISHARDS_SIMD static inline __m512i of(__m512i a, __m512i b) { return _mm512_madd_epi16(a, b); }
};

struct WholeSquare {
  MPISHARDS_SIMD static inline __m512i of(__m512i a, __m512i b) {
    const __m512i difference = _mm512_sub_epi16(a, b);
    return _mm512_madd_epi16(difference, difference);
  }
};

template <class Term, bool kSigned>
MPISHARDS_SIMD inline std::int64_t sum_bytes(const std::byte* a, const std::byte* b, std::int64_t d) {
  constexpr std::int64_t kLanes = 32;
  // Each step adds at most 2 * 255^2 to an int32.
  constexpr std::int64_t kMostSteps = 8192;
  std::int64_t total = 0;
  for (std::int64_t begin = 0; begin < d; begin += kMostSteps * kLanes) {
    const std::int64_t end = std::min(d, begin + kMostSteps * kLanes);
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const auto mask = static_cast<__mmask32>(end - i >= kLanes ? ~0U : (1U << (end - i)) - 1);
      sum =
          _mm512_add_epi32(sum, Term::of(load_bytes<kSigned>(a + i, mask), load_bytes<kSigned>(b + i, mask)));
    }
    total +=
        _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum)),
                                                 _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum, 1))));
  }
  return total;
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

MPISHARDS_SIMD std::int64_t u8_dot_product(const std::byte* a, const std::byte* b, std::int64_t d) {
  return sum_bytes<WholeProduct, false>(a, b, d);
}

MPISHARDS_SIMD std::int64_t u8_l2_squared(const std::byte* a, const std::byte* b, std::int64_t d) {
  return sum_bytes<WholeSquare, false>(a, b, d);
}

MPISHARDS_SIMD std::int64_t i8_dot_product(const std::byte* a, const std::byte* b, std::int64_t d) {
  return sum_bytes<WholeProduct, true>(a, b, d);
}

MPISHARDS_SIMD std::int64_t i8_l2_squared(const std::byte* a, const std::byte* b, std::int64_t d) {
  return sum_bytes<WholeSquare, true>(a, b, d);
}

MPISHARDS_SIMD float kth_largest(float* values, std::int64_t count, std::int64_t k) {
  constexpr int kHalvings = 14;
  constexpr std::int64_t kLanes = 16;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const auto load = [values, count](std::int64_t i) MPISHARDS_SIMD {
    const auto mask = static_cast<__mmask16>(count - i >= kLanes ? 0xffff : (1 << (count - i)) - 1);
    return _mm512_mask_loadu_ps(_mm512_set1_ps(kLowest), mask, values + i);
  };
  const auto reaching = [&load, count](float value) MPISHARDS_SIMD {
    std::int64_t reach = 0;
    for (std::int64_t i = 0; i < count; i += kLanes)
      reach += std::popcount<std::uint32_t>(_mm512_cmp_ps_mask(load(i), _mm512_set1_ps(value), _CMP_GE_OQ));
    return reach;
  };
  __m512 largest = load(0);
  __m512 least = _mm512_set1_ps(-kLowest);
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const __m512 some = load(i);
    largest = _mm512_max_ps(largest, some);
    least =
        _mm512_mask_min_ps(least, _mm512_cmp_ps_mask(some, _mm512_set1_ps(kLowest), _CMP_GT_OQ), least, some);
  }
  // Values that are no bounds are minus infinity.
  float low = _mm512_reduce_min_ps(least);
  float high = _mm512_reduce_max_ps(largest);
  if (k == 1 && high < -kLowest) return high;
  if (!(high < -kLowest) || reaching(low) < k) return kLowest;
  for (int step = 0; step < kHalvings; ++step) {
    const float middle = low + (high - low) * 0.5f;
    if (reaching(middle) >= k)
      low = middle;
    else
      high = middle;
  }
  return low;
}

#include "kernels/cpu/float_screen.inl.hpp"
#include "kernels/cpu/row_sums.inl.hpp"

}  // namespace mpishards::kernels::cpu::avx512
#undef MPISHARDS_SIMD
#endif

#include "kernels/cpu/avx2.hpp"

#if defined(MPISHARDS_X86_64)
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/screen_blas.hpp"

// Per function instead of per file: inline functions of headers stay compiled for the baseline, so that no
// linker can pick an AVX2 copy for a machine without it.
#define MPISHARDS_AVX2 __attribute__((target("avx2,fma")))

namespace mpishards::kernels::cpu::avx2 {
namespace {

/// Lanes 0-3 and 4-7 of a LaneSum.
struct Lanes {
  __m256d low;
  __m256d high;
};

MPISHARDS_AVX2 inline Lanes widen(__m256 values) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(values)), _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1))};
}

/// Elements past `count` are zero: a lane that adds fma(0, 0, sum) keeps its bits, for no sum is -0.
MPISHARDS_AVX2 inline __m256 load_part(const float* values, std::int64_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
  return _mm256_maskload_ps(values, mask);
}

MPISHARDS_AVX2 inline double total(Lanes sum) {
  const __m256d four = _mm256_add_pd(sum.low, sum.high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

struct Product {
  MPISHARDS_AVX2 static inline void add(Lanes& sum, __m256 a, __m256 b) {
    const Lanes wide_a = widen(a);
    const Lanes wide_b = widen(b);
    sum.low = _mm256_fmadd_pd(wide_a.low, wide_b.low, sum.low);
    sum.high = _mm256_fmadd_pd(wide_a.high, wide_b.high, sum.high);
  }
};

struct SquaredDifference {
  MPISHARDS_AVX2 static inline void add(Lanes& sum, __m256 a, __m256 b) {
    const Lanes wide_a = widen(a);
    const Lanes wide_b = widen(b);
    const __m256d low = _mm256_sub_pd(wide_a.low, wide_b.low);
    const __m256d high = _mm256_sub_pd(wide_a.high, wide_b.high);
    sum.low = _mm256_fmadd_pd(low, low, sum.low);
    sum.high = _mm256_fmadd_pd(high, high, sum.high);
  }
};

template <class Term>
MPISHARDS_AVX2 inline double sum_terms(const float* a, const float* b, std::int64_t d) {
  Lanes sum{_mm256_setzero_pd(), _mm256_setzero_pd()};
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) Term::add(sum, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
  if (i < d) Term::add(sum, load_part(a + i, d - i), load_part(b + i, d - i));
  return total(sum);
}

// One branch for so many scores: hits are rare.
constexpr std::int64_t kRunVectors = 8;
constexpr std::int64_t kRun = 8 * kRunVectors;

template <bool kScale, bool kBias>
MPISHARDS_AVX2 inline __m256 finish(const ScreenTile& tile, __m256 product, std::int64_t row) {
  if constexpr (kScale) product = _mm256_mul_ps(product, _mm256_loadu_ps(tile.scale + row));
  if constexpr (kBias) product = _mm256_add_ps(product, _mm256_loadu_ps(tile.bias + row));
  return product;
}

float finish_one(const ScreenTile& tile, float product, std::int64_t row) {
  if (tile.scale != nullptr) product *= tile.scale[row];
  if (tile.bias != nullptr) product += tile.bias[row];
  return product;
}

/// Reports what of one run is no worse than the threshold, which may rise on the way.
__attribute__((noinline)) void report(const ScreenTile& tile, CandidateSink& sink, std::int64_t query,
                                      std::int64_t begin, std::int64_t end) {
  const float* const products = tile.scores + query * tile.base.rows;
  for (std::int64_t row = begin; row < end; ++row) {
    const float score = finish_one(tile, products[row], row);
    if (!(score < tile.thresholds[query])) sink.add(query, row, score);
  }
}

template <bool kScale, bool kBias>
MPISHARDS_AVX2 void filter(const ScreenTile& tile, CandidateSink& sink) {
  const std::int64_t rows = tile.base.rows;
  for (std::int64_t query = 0; query < tile.queries.rows; ++query) {
    const float* const products = tile.scores + query * rows;
    __m256 threshold = _mm256_set1_ps(tile.thresholds[query]);
    std::int64_t row = 0;
    for (; row + kRun <= rows; row += kRun) {
      __m256 hits = _mm256_setzero_ps();
      for (std::int64_t v = 0; v < kRunVectors; ++v) {
        const __m256 score =
            finish<kScale, kBias>(tile, _mm256_loadu_ps(products + row + 8 * v), row + 8 * v);
        hits = _mm256_or_ps(hits, _mm256_cmp_ps(score, threshold, _CMP_NLT_UQ));
      }
      if (_mm256_movemask_ps(hits) == 0) continue;
      report(tile, sink, query, row, row + kRun);
      threshold = _mm256_set1_ps(tile.thresholds[query]);
    }
    report(tile, sink, query, row, rows);
  }
}

}  // namespace

bool is_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

MPISHARDS_AVX2 double dot_product(const float* a, const float* b, std::int64_t d) {
  return sum_terms<Product>(a, b, d);
}

MPISHARDS_AVX2 double l2_squared(const float* a, const float* b, std::int64_t d) {
  return sum_terms<SquaredDifference>(a, b, d);
}

void screen(const ScreenTile& tile, CandidateSink& sink) {
  multiply_blas(tile);
  if (tile.scale != nullptr) return filter<true, false>(tile, sink);
  if (tile.bias != nullptr) return filter<false, true>(tile, sink);
  return filter<false, false>(tile, sink);
}

}  // namespace mpishards::kernels::cpu::avx2
#endif

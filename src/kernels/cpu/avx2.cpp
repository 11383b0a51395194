#include "kernels/cpu/avx2.hpp"

#if defined(MPISHARDS_X86_64)
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <limits>

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

constexpr std::int64_t kQueries = 6;  // 6 x 2 accumulators and 3 operands: 15 of 16 registers
constexpr std::int64_t kRows = 16;
// Of packed base rows that all queries of a chunk pass over: half of a 512 KiB L2.
constexpr std::int64_t kBlockBytes = std::int64_t{256} << 10;

constexpr std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Rows of one packed block: a multiple of kRows.
std::int64_t block_rows(std::int64_t base_rows, std::int64_t d) {
  const std::int64_t fitting = kBlockBytes / (d * static_cast<std::int64_t>(sizeof(float))) / kRows * kRows;
  return std::min(round_up(base_rows, kRows), std::max(fitting, kRows));
}

/// Up to kRows base rows side by side, with what finishes their scores.
struct Panel {
  const float* values;  // d x kRows
  const float* scale;
  const float* bias;
};

MPISHARDS_AVX2 inline void transpose_8x8(const float* in, std::int64_t in_stride, float* out,
                                         std::int64_t out_stride) {
  __m256 r[8];
  __m256 t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * in_stride);
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

/// Rows [begin, begin + kRows) of `base`, side by side; rows past the end are zero.
MPISHARDS_AVX2 void pack_panel(MatrixView<const float> base, std::int64_t begin, float* panel) {
  const std::int64_t rows = std::min(kRows, base.rows - begin);
  const std::int64_t d = base.cols;
  const std::int64_t whole = rows == kRows ? d / 8 * 8 : 0;
  for (std::int64_t i = 0; i < whole; i += 8)
    for (std::int64_t row = 0; row < kRows; row += 8)
      transpose_8x8(base.row(begin + row) + i, d, panel + i * kRows + row, kRows);
  if (rows < kRows) std::fill_n(panel, d * kRows, 0.0f);
  for (std::int64_t i = whole; i < d; ++i)
    for (std::int64_t row = 0; row < rows; ++row) panel[i * kRows + row] = base.row(begin + row)[i];
}

/// Scores of the 6 x 16 pairs of a query group and a panel; true where one is not below its query's
/// threshold.
///
/// Rounds once after the dot product: scale is 1 or bias is 0.
/// @param[out] scores  6 x 16, written only on a hit
MPISHARDS_AVX2 inline bool screen_block(const float* group, const Panel& panel, std::int64_t d,
                                        const float* thresholds, float* scores) {
  __m256 sum[kQueries][2];
#pragma GCC unroll 6
  for (int q = 0; q < kQueries; ++q) sum[q][0] = sum[q][1] = _mm256_setzero_ps();
  const float* values = panel.values;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < d; ++i, values += kRows, group += kQueries) {
    const __m256 left = _mm256_load_ps(values);
    const __m256 right = _mm256_load_ps(values + 8);
#pragma GCC unroll 6
    for (int q = 0; q < kQueries; ++q) {
      const __m256 query = _mm256_broadcast_ss(group + q);
      sum[q][0] = _mm256_fmadd_ps(query, left, sum[q][0]);
      sum[q][1] = _mm256_fmadd_ps(query, right, sum[q][1]);
    }
  }
  __m256 hits = _mm256_setzero_ps();
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const std::ptrdiff_t first = std::ptrdiff_t{8} * half;
    const __m256 scale = _mm256_load_ps(panel.scale + first);
    const __m256 bias = _mm256_load_ps(panel.bias + first);
#pragma GCC unroll 6
    for (int q = 0; q < kQueries; ++q) {
      sum[q][half] = _mm256_fmadd_ps(sum[q][half], scale, bias);
      const __m256 threshold = _mm256_broadcast_ss(thresholds + q);
      hits = _mm256_or_ps(hits, _mm256_cmp_ps(sum[q][half], threshold, _CMP_NLT_UQ));
    }
  }
  if (_mm256_movemask_ps(hits) == 0) return false;
#pragma GCC unroll 6
  for (int q = 0; q < kQueries; ++q) {
    _mm256_store_ps(scores + q * kRows, sum[q][0]);
    _mm256_store_ps(scores + q * kRows + 8, sum[q][1]);
  }
  return true;
}

/// Which of the kRows scores are not below the threshold, a bit each.
MPISHARDS_AVX2 inline std::uint32_t hits_of(const float* scores, float threshold) {
  const __m256 limit = _mm256_set1_ps(threshold);
  const __m256 low = _mm256_cmp_ps(_mm256_load_ps(scores), limit, _CMP_NLT_UQ);
  const __m256 high = _mm256_cmp_ps(_mm256_load_ps(scores + 8), limit, _CMP_NLT_UQ);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(low)) |
         static_cast<std::uint32_t>(_mm256_movemask_ps(high)) << 8;
}

/// Hits are rare: this stays out of the hot loop.
MPISHARDS_AVX2 __attribute__((noinline)) void report(const ScreenTile& tile, CandidateSink& sink,
                                                     std::int64_t first_query, std::int64_t first_row,
                                                     const float* scores) {
  const std::int64_t queries = std::min(kQueries, tile.queries.rows - first_query);
  const std::int64_t rows = std::min(kRows, tile.base.rows - first_row);
  const std::uint32_t real_rows = (1u << rows) - 1;
  for (std::int64_t q = 0; q < queries; ++q) {
    const float* const own = scores + q * kRows;
    const float& threshold = tile.thresholds[first_query + q];
    for (std::uint32_t hits = hits_of(own, threshold) & real_rows; hits != 0; hits &= hits - 1) {
      const int row = std::countr_zero(hits);
      if (!(own[row] < threshold)) sink.add(first_query + q, first_row + row, own[row]);
    }
  }
}

/// Thresholds of a group; padding queries never hit.
void load_thresholds(const ScreenTile& tile, std::int64_t first_query, float* thresholds) {
  for (std::int64_t q = 0; q < kQueries; ++q)
    thresholds[q] = first_query + q < tile.queries.rows ? tile.thresholds[first_query + q]
                                                        : std::numeric_limits<float>::infinity();
}

/// A packed block of the tile's base rows: panels, and scale and bias padded to whole panels.
struct Block {
  std::int64_t first_row;
  std::int64_t n_panels;
  const float* values;
  const float* scale;
  const float* bias;
};

/// @param values  as the scratch of a tile is laid out: panels, then scale, then bias
Block pack_block(const ScreenTile& tile, std::int64_t first_row, std::int64_t rows, float* scratch) {
  const std::int64_t d = tile.base.cols;
  float* const scale = scratch + rows * d;
  float* const bias = scale + rows;
  const std::int64_t real = std::min(rows, tile.base.rows - first_row);
  for (std::int64_t row = 0; row < rows; row += kRows)
    if (row < real) pack_panel(tile.base, first_row + row, scratch + row * d);
  for (std::int64_t row = 0; row < rows; ++row) {
    const bool is_real = row < real;
    scale[row] = is_real && tile.scale != nullptr ? tile.scale[first_row + row] : 1.0f;
    bias[row] = !is_real               ? -std::numeric_limits<float>::infinity()
                : tile.bias != nullptr ? tile.bias[first_row + row]
                                       : 0.0f;
  }
  return {first_row, (real + kRows - 1) / kRows, scratch, scale, bias};
}

MPISHARDS_AVX2 void screen_group(const ScreenTile& tile, const Block& block, std::int64_t first_query,
                                 CandidateSink& sink) {
  const std::int64_t d = tile.base.cols;
  const float* const group = tile.packed_queries + first_query * d;
  alignas(32) float scores[kQueries * kRows];
  alignas(32) float thresholds[kQueries];
  load_thresholds(tile, first_query, thresholds);
  for (std::int64_t p = 0; p < block.n_panels; ++p) {
    const std::int64_t row = p * kRows;
    const Panel panel{block.values + row * d, block.scale + row, block.bias + row};
    if (!screen_block(group, panel, d, thresholds, scores)) continue;
    report(tile, sink, first_query, block.first_row + row, scores);
    load_thresholds(tile, first_query, thresholds);
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

std::int64_t packed_query_floats(std::int64_t nq, std::int64_t d) {
  return round_up(nq, kQueries) * d;
}

void pack_queries(MatrixView<const float> queries, float* packed) {
  const std::int64_t d = queries.cols;
  for (std::int64_t query = 0; query < round_up(queries.rows, kQueries); ++query) {
    float* const group = packed + query / kQueries * kQueries * d + query % kQueries;
    for (std::int64_t i = 0; i < d; ++i)
      group[i * kQueries] = query < queries.rows ? queries.row(query)[i] : 0.0f;
  }
}

std::int64_t scratch_floats(std::int64_t, std::int64_t base_rows, std::int64_t d) {
  return block_rows(base_rows, d) * (d + 2);
}

void screen(const ScreenTile& tile, CandidateSink& sink) {
  const std::int64_t rows = block_rows(tile.base.rows, tile.base.cols);
  for (std::int64_t first_row = 0; first_row < tile.base.rows; first_row += rows) {
    const Block block = pack_block(tile, first_row, rows, tile.scratch);
    for (std::int64_t query = 0; query < tile.queries.rows; query += kQueries)
      screen_group(tile, block, query, sink);
  }
}

}  // namespace mpishards::kernels::cpu::avx2
#endif

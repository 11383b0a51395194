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

constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kPanelQueries = 2 * kLanes;
// Rows that are screened together: 12 x 8 or twice 6 x 16 accumulators, which leaves registers for the
// operands.
constexpr std::int64_t kGroupRows = 12;
// Of base rows that all panels of a chunk pass over: they stay in a quarter of a 512 KiB L2, while the panels
// may come from farther away.
constexpr std::int64_t kBlockBytes = std::int64_t{128} << 10;

constexpr std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::int64_t block_rows(std::int64_t d) {
  const std::int64_t fitting = kBlockBytes / (d * static_cast<std::int64_t>(sizeof(float)));
  return std::max(fitting / kGroupRows * kGroupRows, kGroupRows);
}

/// Up to 16 queries side by side.
struct Panel {
  const float* values;  // d x lanes
  std::int64_t first_query;
  std::int64_t queries;  // of them; the other lanes are zero

  std::int64_t lanes() const { return round_up(queries, kLanes); }
};

Panel panel_of(const ScreenTile& tile, std::int64_t first_query) {
  return {tile.packed_queries + first_query * tile.base.cols, first_query,
          std::min(kPanelQueries, tile.queries.rows - first_query)};
}

/// Rows as they are stored, with what finishes their scores.
struct Rows {
  const float* values;
  const float* scale;  // null: all ones
  const float* bias;   // null: all zeros
  std::int64_t first_row;
  std::int64_t count;

  Rows from(std::int64_t row, std::int64_t d) const {
    return {values + row * d, scale == nullptr ? nullptr : scale + row,
            bias == nullptr ? nullptr : bias + row, first_row + row, count - row};
  }
};

MPISHARDS_AVX2 inline void transpose_8x8(const float* const (&in)[kLanes], float* out,
                                         std::int64_t out_stride) {
  __m256 r[8];
  __m256 t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in[i]);
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
    _mm256_store_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_store_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

/// Queries [first, first + kLanes) side by side; those past the end are zero.
MPISHARDS_AVX2 void pack_lanes(MatrixView<const float> queries, std::int64_t first, float* out,
                               std::int64_t out_stride) {
  const std::int64_t d = queries.cols;
  const std::int64_t real = std::min(kLanes, queries.rows - first);
  const std::int64_t whole = real == kLanes ? d / 8 * 8 : 0;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const float* in[kLanes];
    for (std::int64_t lane = 0; lane < kLanes; ++lane) in[lane] = queries.row(first + lane) + i;
    transpose_8x8(in, out + i * out_stride, out_stride);
  }
  for (std::int64_t i = whole; i < d; ++i)
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      out[i * out_stride + lane] = lane < real ? queries.row(first + lane)[i] : 0.0f;
}

/// Scores of kRows x kVectors * 8 pairs; true where one is not below its query's threshold.
///
/// Rounds once after the dot product: scale is 1 or bias is 0.
/// @param thresholds   one a lane
/// @param[out] scores  kRows x kVectors * 8, written only on a hit
template <std::int64_t kRows, std::int64_t kVectors>
MPISHARDS_AVX2 inline bool screen_block(const Rows& rows, const float* panel, std::int64_t d,
                                        const float* thresholds, float* scores) {
  __m256 sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_ps();
  const float* row[kRows];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) row[r] = rows.values + r * d;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < d; ++i) {
    __m256 queries[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) queries[v] = _mm256_load_ps(panel + (i * kVectors + v) * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m256 value = _mm256_broadcast_ss(row[r] + i);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_fmadd_ps(value, queries[v], sum[r][v]);
    }
  }
  __m256 hits = _mm256_setzero_ps();
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const __m256 scale = rows.scale == nullptr ? _mm256_set1_ps(1) : _mm256_broadcast_ss(rows.scale + r);
    const __m256 bias = rows.bias == nullptr ? _mm256_setzero_ps() : _mm256_broadcast_ss(rows.bias + r);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = _mm256_fmadd_ps(sum[r][v], scale, bias);
      const __m256 threshold = _mm256_load_ps(thresholds + v * kLanes);
      hits = _mm256_or_ps(hits, _mm256_cmp_ps(sum[r][v], threshold, _CMP_NLT_UQ));
    }
  }
  if (_mm256_movemask_ps(hits) == 0) return false;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm256_store_ps(scores + (r * kVectors + v) * kLanes, sum[r][v]);
  return true;
}

/// Which of 8 scores are not below their thresholds, a bit each.
MPISHARDS_AVX2 inline std::uint32_t hits_of(const float* scores, const float* thresholds) {
  const __m256 hits = _mm256_cmp_ps(_mm256_load_ps(scores), _mm256_load_ps(thresholds), _CMP_NLT_UQ);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(hits));
}

/// Thresholds of a panel; padding lanes never hit.
void load_thresholds(const ScreenTile& tile, const Panel& panel, float* thresholds) {
  std::fill_n(thresholds, kPanelQueries, std::numeric_limits<float>::infinity());
  std::copy_n(tile.thresholds + panel.first_query, panel.queries, thresholds);
}

/// Hits are rare: this stays out of the hot loop.
/// @param scores  n_rows x the panel's lanes; rows past rows.count are none
/// @param thresholds  the panel's; brought up to date
MPISHARDS_AVX2 __attribute__((noinline)) void report(const ScreenTile& tile, const Panel& panel,
                                                     const Rows& rows, std::int64_t n_rows,
                                                     const float* scores, float* thresholds,
                                                     CandidateSink& sink) {
  for (std::int64_t row = 0; row < std::min(n_rows, rows.count); ++row)
    for (std::int64_t lane = 0; lane < panel.lanes(); lane += kLanes) {
      const float* const own = scores + row * panel.lanes() + lane;
      for (std::uint32_t hits = hits_of(own, thresholds + lane); hits != 0; hits &= hits - 1) {
        const std::int64_t hit = std::countr_zero(hits);
        if (lane + hit >= panel.queries) break;
        const std::int64_t query = panel.first_query + lane + hit;
        sink.add(query, rows.first_row + row, own[hit]);
        thresholds[lane + hit] = tile.thresholds[query];
      }
    }
}

/// Asks for memory that will be read: rows are streamed in an order that no hardware prefetcher foresees.
MPISHARDS_AVX2 inline void prefetch(const float* values, std::int64_t count) {
  constexpr std::int64_t kLineFloats = 64 / sizeof(float);
  for (std::int64_t i = 0; i < count; i += kLineFloats)
    _mm_prefetch(reinterpret_cast<const char*>(values + i), _MM_HINT_T0);
}

/// One panel against rows, whose number is a multiple of kRows or padded to one.
template <std::int64_t kRows, std::int64_t kVectors>
MPISHARDS_AVX2 void screen_rows(const ScreenTile& tile, const Panel& panel, const Rows& rows,
                                CandidateSink& sink) {
  const std::int64_t d = tile.base.cols;
  alignas(32) float scores[kRows * kVectors * kLanes];
  alignas(32) float thresholds[kPanelQueries];
  load_thresholds(tile, panel, thresholds);
  for (std::int64_t row = 0; row < rows.count; row += kRows) {
    const Rows group = rows.from(row, d);
    if (panel.first_query == 0) prefetch(group.values + kRows * d, kRows * d);
    if (screen_block<kRows, kVectors>(group, panel.values, d, thresholds, scores))
      report(tile, panel, group, kRows, scores, thresholds, sink);
  }
}

void screen_panels(const ScreenTile& tile, const Rows& rows, CandidateSink& sink) {
  for (std::int64_t query = 0; query < tile.queries.rows; query += kPanelQueries) {
    const Panel panel = panel_of(tile, query);
    if (panel.lanes() == kLanes)
      screen_rows<kGroupRows, 1>(tile, panel, rows, sink);
    else
      screen_rows<kGroupRows / 2, 2>(tile, panel, rows, sink);
  }
}

/// The last rows, fewer than kGroupRows, padded: the sums read whole groups.
/// @param scratch  kGroupRows x (d + 2)
Rows pad_rows(const Rows& rows, std::int64_t d, float* scratch) {
  float* const scale = scratch + kGroupRows * d;
  float* const bias = scale + kGroupRows;
  std::fill_n(scratch, kGroupRows * (d + 2), 0.0f);
  std::copy_n(rows.values, rows.count * d, scratch);
  if (rows.scale != nullptr) std::copy_n(rows.scale, rows.count, scale);
  if (rows.bias != nullptr) std::copy_n(rows.bias, rows.count, bias);
  return {scratch, rows.scale == nullptr ? nullptr : scale, rows.bias == nullptr ? nullptr : bias,
          rows.first_row, rows.count};
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
  return round_up(nq, kLanes) * d;
}

void pack_queries(MatrixView<const float> queries, float* packed) {
  for (std::int64_t first = 0; first < queries.rows; first += kPanelQueries) {
    const std::int64_t lanes = round_up(std::min(kPanelQueries, queries.rows - first), kLanes);
    for (std::int64_t lane = 0; lane < lanes; lane += kLanes)
      pack_lanes(queries, first + lane, packed + first * queries.cols + lane, lanes);
  }
}

std::int64_t scratch_floats(std::int64_t, std::int64_t, std::int64_t d) {
  return kGroupRows * (d + 2);
}

void screen(const ScreenTile& tile, CandidateSink& sink) {
  const std::int64_t d = tile.base.cols;
  const Rows all{tile.base.data, tile.scale, tile.bias, 0, tile.base.rows};
  const std::int64_t whole = tile.base.rows / kGroupRows * kGroupRows;
  const std::int64_t block = block_rows(d);
  for (std::int64_t row = 0; row < whole; row += block) {
    Rows rows = all.from(row, d);
    rows.count = std::min(block, whole - row);
    screen_panels(tile, rows, sink);
  }
  if (whole < tile.base.rows) screen_panels(tile, pad_rows(all.from(whole, d), d, tile.scratch), sink);
}

}  // namespace mpishards::kernels::cpu::avx2
#endif

// The float32 screen for any width of vectors: no header to include at the top, but the body of a namespace
// that has
//
//   MPISHARDS_SIMD   the target attribute of the instructions. Per function instead of per file: inline
//                    functions of headers stay compiled for the baseline, so that no linker can pick a copy
//                    with instructions that a machine lacks.
//   struct Simd      a vector of float32 and what the screen does with it, see avx2.cpp
//
// and includes <immintrin.h>, <algorithm>, <bit>, <cstdint>, <limits> and kernels/cpu/screen.hpp.

// NOLINTBEGIN(misc-definitions-in-headers): each namespace has this body once
namespace {

constexpr std::int64_t kLanes = Simd::kLanes;
constexpr std::int64_t kPanelQueries = Simd::kPanelVectors * kLanes;
// Rows that are screened together, at once against one vector of queries, in two halves against more: with
// more pointers to rows the general registers spill.
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

/// Queries side by side, as many as fit into the registers.
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

// Queries that are packed at once.
constexpr std::int64_t kPackLanes = 8;

MPISHARDS_SIMD inline void transpose_8x8(const float* const (&in)[kPackLanes], float* out,
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

/// Queries [first, first + kPackLanes) side by side; those past the end are zero.
MPISHARDS_SIMD void pack_lanes(MatrixView<const float> queries, std::int64_t first, float* out,
                               std::int64_t out_stride) {
  const std::int64_t d = queries.cols;
  const std::int64_t real = std::min(kPackLanes, queries.rows - first);
  const std::int64_t whole = real == kPackLanes ? d / 8 * 8 : 0;
  for (std::int64_t i = 0; i < whole; i += 8) {
    const float* in[kPackLanes];
    for (std::int64_t lane = 0; lane < kPackLanes; ++lane) in[lane] = queries.row(first + lane) + i;
    transpose_8x8(in, out + i * out_stride, out_stride);
  }
  for (std::int64_t i = whole; i < d; ++i)
    for (std::int64_t lane = 0; lane < kPackLanes; ++lane)
      out[i * out_stride + lane] = lane < real ? queries.row(first + lane)[i] : 0.0f;
}

/// Scores of kRows x kVectors * kLanes pairs; true where one is not below its query's threshold.
///
/// Rounds once after the dot product: scale is 1 or bias is 0.
/// @param thresholds   one a lane
/// @param[out] scores  kRows x kVectors * kLanes, written only on a hit
template <std::int64_t kRows, std::int64_t kVectors>
MPISHARDS_SIMD inline bool screen_block(const Rows& rows, const float* panel, std::int64_t d,
                                        const float* thresholds, float* scores) {
  Simd::Floats sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Simd::zero();
  const float* row[kRows];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) row[r] = rows.values + r * d;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < d; ++i) {
    Simd::Floats queries[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) queries[v] = Simd::load(panel + (i * kVectors + v) * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Simd::Floats value = Simd::broadcast(row[r] + i);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Simd::fmadd(value, queries[v], sum[r][v]);
    }
  }
  Simd::Hits hits = Simd::no_hits();
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const Simd::Floats scale = rows.scale == nullptr ? Simd::one() : Simd::broadcast(rows.scale + r);
    const Simd::Floats bias = rows.bias == nullptr ? Simd::zero() : Simd::broadcast(rows.bias + r);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = Simd::fmadd(sum[r][v], scale, bias);
      hits = Simd::either(hits, Simd::hits(sum[r][v], Simd::load(thresholds + v * kLanes)));
    }
  }
  if (Simd::lanes_of(hits) == 0) return false;
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Simd::store(scores + (r * kVectors + v) * kLanes, sum[r][v]);
  return true;
}

/// Which of kLanes scores are not below their thresholds, a bit each.
MPISHARDS_SIMD inline std::uint32_t hits_of(const float* scores, const float* thresholds) {
  return Simd::lanes_of(Simd::hits(Simd::load(scores), Simd::load(thresholds)));
}

/// Thresholds of a panel; padding lanes never hit.
void load_thresholds(const ScreenTile& tile, const Panel& panel, float* thresholds) {
  std::fill_n(thresholds, kPanelQueries, std::numeric_limits<float>::infinity());
  std::copy_n(tile.thresholds + panel.first_query, panel.queries, thresholds);
}

/// Hits are rare: this stays out of the hot loop.
/// @param scores  n_rows x the panel's lanes; rows past rows.count are none
/// @param thresholds  the panel's; brought up to date
MPISHARDS_SIMD __attribute__((noinline)) void report(const ScreenTile& tile, const Panel& panel,
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
MPISHARDS_SIMD inline void prefetch(const float* values, std::int64_t count) {
  constexpr std::int64_t kLineFloats = 64 / sizeof(float);
  for (std::int64_t i = 0; i < count; i += kLineFloats)
    _mm_prefetch(reinterpret_cast<const char*>(values + i), _MM_HINT_T0);
}

/// One panel against rows, whose number is a multiple of kRows or padded to one.
template <std::int64_t kRows, std::int64_t kVectors>
MPISHARDS_SIMD void screen_rows(const ScreenTile& tile, const Panel& panel, const Rows& rows,
                                CandidateSink& sink) {
  const std::int64_t d = tile.base.cols;
  alignas(64) float scores[kRows * kVectors * kLanes];
  alignas(64) float thresholds[kPanelQueries];
  load_thresholds(tile, panel, thresholds);
  for (std::int64_t row = 0; row < rows.count; row += kRows) {
    const Rows group = rows.from(row, d);
    if (panel.first_query == 0) prefetch(group.values + kRows * d, kRows * d);
    if (screen_block<kRows, kVectors>(group, panel.values, d, thresholds, scores))
      report(tile, panel, group, kRows, scores, thresholds, sink);
  }
}

/// A panel of kMost vectors, or of fewer.
template <std::int64_t kMost>
void screen_panel(const ScreenTile& tile, const Panel& panel, const Rows& rows, CandidateSink& sink) {
  if constexpr (kMost > 1) {
    if (panel.lanes() < kMost * kLanes) return screen_panel<kMost - 1>(tile, panel, rows, sink);
  }
  screen_rows<kMost == 1 ? kGroupRows : kGroupRows / 2, kMost>(tile, panel, rows, sink);
}

void screen_panels(const ScreenTile& tile, const Rows& rows, CandidateSink& sink) {
  for (std::int64_t query = 0; query < tile.queries.rows; query += kPanelQueries) {
    const Panel panel = panel_of(tile, query);
    screen_panel<Simd::kPanelVectors>(tile, panel, rows, sink);
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

std::int64_t packed_query_floats(std::int64_t nq, std::int64_t d) {
  return round_up(nq, kLanes) * d;
}

void pack_queries(MatrixView<const float> queries, float* packed) {
  for (std::int64_t first = 0; first < queries.rows; first += kPanelQueries) {
    const std::int64_t lanes = round_up(std::min(kPanelQueries, queries.rows - first), kLanes);
    for (std::int64_t lane = 0; lane < lanes; lane += kPackLanes)
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
// NOLINTEND(misc-definitions-in-headers)

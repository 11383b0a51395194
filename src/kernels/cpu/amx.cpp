#include "kernels/cpu/amx.hpp"

#if defined(MPISHARDS_X86_64)
#include <cpuid.h>
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
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#define MPISHARDS_AMX                                                                         \
  __attribute__((                                                                             \
      target("amx-tile,amx-bf16,amx-int8,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2," \
             "fma")))

namespace mpishards::kernels::cpu::amx {
namespace {

// Of base rows that all queries of a chunk pass over: half of a 48 KiB L1; queries and results need the rest.
constexpr std::int64_t kStripBytes = std::int64_t{24} << 10;
constexpr std::int64_t kMostStripPanels = 4;
constexpr std::int64_t kBlockTiles = 4;  // of 16 x 16 scores
constexpr std::int64_t kTileScores = kTileRows * kTileRows;

bool has_instructions() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kAmxBf16 = 1U << 22U;
  constexpr unsigned kAmxTile = 1U << 24U;
  constexpr unsigned kAmxInt8 = 1U << 25U;
  constexpr unsigned kAvx512Bf16 = 1U << 5U;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0 || (d & kAmxInt8) == 0) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvx512Bf16) != 0;
}

/// Linux gives the tile registers' 8 KiB to processes that ask.
bool gets_tile_registers() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

/// The 64 bytes that LDTILECFG reads: all eight tiles are whole.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

template <PlaneType kType>
struct ScoreOf {
  using Type = std::int32_t;
};
template <>
struct ScoreOf<PlaneType::bf16> {
  using Type = float;
};

/// Thresholds in the unit of the sums. A sum below one is a score below the float threshold.
template <PlaneType kType>
typename ScoreOf<kType>::Type threshold_of(float threshold, double unit) {
  if constexpr (kType == PlaneType::bf16) return threshold;
  // One less makes up for the rounding of the quotient.
  const double quotient = std::floor(static_cast<double>(threshold) / unit) - 1;
  constexpr double kLowest = std::numeric_limits<std::int32_t>::min();
  constexpr double kHighest = std::numeric_limits<std::int32_t>::max();
  return static_cast<typename ScoreOf<kType>::Type>(std::clamp(quotient, kLowest, kHighest));
}

/// The scores of 32 rows and up to 32 queries: tiles in the order (rows 0-15, queries 0-15), (0-15, 16-31),
/// (16-31, 0-15), (16-31, 16-31).
struct Block {
  std::int64_t first_row = 0;
  std::int64_t first_query = 0;
  bool is_wide = false;  // more than 16 queries
};

/// One run over a tile: what its blocks have in common.
template <PlaneType kType>
struct Run {
  using Score = typename ScoreOf<kType>::Type;

  const PlaneTile& tile;
  CandidateSink& sink;
  Score* scores;      // of the block that is filtered
  Score* bias_tiles;  // of a strip: 16 times each row's bias
  Score* thresholds;  // one a query, padded
  bool is_pending = false;
  Block pending;  // its sums are in the tile registers, or in `scores`

  void refresh_threshold(std::int64_t query) {
    thresholds[query] = threshold_of<kType>(tile.thresholds[query], tile.unit);
  }
};

MPISHARDS_AMX inline std::uint32_t not_below(__m512 scores, const float* thresholds) {
  return _mm512_cmp_ps_mask(scores, _mm512_load_ps(thresholds), _CMP_GE_OQ);
}

MPISHARDS_AMX inline std::uint32_t not_below(__m512i scores, const std::int32_t* thresholds) {
  return _mm512_cmpge_epi32_mask(scores, _mm512_load_si512(thresholds));
}

MPISHARDS_AMX inline std::uint32_t hits_of(const float* scores, const float* thresholds) {
  return not_below(_mm512_load_ps(scores), thresholds);
}

MPISHARDS_AMX inline std::uint32_t hits_of(const std::int32_t* scores, const std::int32_t* thresholds) {
  return not_below(_mm512_load_si512(scores), thresholds);
}

/// Hits are rare: this stays out of the hot loop.
template <PlaneType kType>
MPISHARDS_AMX __attribute__((noinline)) void report(Run<kType>& run, std::int64_t tile) {
  const std::int64_t first_row = run.pending.first_row + tile / 2 * kTileRows;
  const std::int64_t first_query = run.pending.first_query + tile % 2 * kTileRows;
  const auto* scores = run.scores + tile * kTileScores;
  const std::int64_t rows = std::min(kTileRows, run.tile.n_rows - first_row);
  for (std::int64_t row = 0; row < rows; ++row, scores += kTileRows)
    for (std::uint32_t hits = hits_of(scores, run.thresholds + first_query); hits != 0; hits &= hits - 1) {
      const std::int64_t lane = std::countr_zero(hits);
      const std::int64_t query = first_query + lane;
      if (query >= run.tile.n_queries) break;
      run.sink.add(query, first_row + row, static_cast<float>(run.tile.unit * scores[lane]));
      run.refresh_threshold(query);
    }
}

/// The best score of 16 queries over the 16 rows of a tile.
MPISHARDS_AMX inline __m512 best_of(const float* scores) {
  __m512 best = _mm512_load_ps(scores);
#pragma GCC unroll 16
  for (int row = 1; row < kTileRows; ++row)
    best = _mm512_max_ps(best, _mm512_load_ps(scores + row * kTileRows));
  return best;
}

MPISHARDS_AMX inline __m512i best_of(const std::int32_t* scores) {
  __m512i best = _mm512_load_si512(scores);
#pragma GCC unroll 16
  for (int row = 1; row < kTileRows; ++row)
    best = _mm512_max_epi32(best, _mm512_load_si512(scores + row * kTileRows));
  return best;
}

MPISHARDS_AMX inline __m512 scores_of(__m512 sums, double) {
  return sums;
}

MPISHARDS_AMX inline __m512 scores_of(__m512i sums, double unit) {
  return _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(static_cast<float>(unit)));
}

/// Looks for hits in one tile of the pending block, or keeps its maxima.
template <PlaneType kType>
MPISHARDS_AMX inline void filter(Run<kType>& run, std::int64_t tile) {
  const std::int64_t first_query = run.pending.first_query + tile % 2 * kTileRows;
  const auto best = best_of(run.scores + tile * kTileScores);
  if (run.tile.group_maxima != nullptr) {
    const std::int64_t group = run.pending.first_row / kTileRows + tile / 2;
    if ((group + 1) * kTileRows > run.tile.n_rows) return;
    _mm512_storeu_ps(run.tile.group_maxima + group * padded_queries(run.tile.n_queries) + first_query,
                     scores_of(best, run.tile.unit));
    return;
  }
  if (__builtin_expect(not_below(best, run.thresholds + first_query) != 0, 0)) report(run, tile);
}

template <PlaneType kType>
MPISHARDS_AMX inline void filter_part(Run<kType>& run, std::int64_t part) {
  if (part >= kBlockTiles || !run.is_pending || (part % 2 == 1 && !run.pending.is_wide)) return;
  filter(run, part);
}

// Register numbers are part of the instructions: 0-3 are sums, 4 and 5 rows, 6 and 7 queries.
#define MPISHARDS_MULTIPLY(sum, rows, queries) \
  do {                                         \
    if constexpr (kType == PlaneType::bf16)    \
      _tile_dpbf16ps(sum, rows, queries);      \
    else if constexpr (kType == PlaneType::s8) \
      _tile_dpbssd(sum, rows, queries);        \
    else                                       \
      _tile_dpbuud(sum, rows, queries);        \
  } while (false)

// Moves a finished sum out of the way and begins the next one. The memory barrier tells the compiler what the
// instructions read and write.
#define MPISHARDS_EXCHANGE(sum, half)                                                     \
  do {                                                                                    \
    if (run.is_pending) _tile_stored(sum, run.scores + (sum)*kTileScores, kTileRowBytes); \
    if (bias_tiles == nullptr)                                                            \
      _tile_zero(sum);                                                                    \
    else                                                                                  \
      _tile_loadd(sum, bias_tiles + (half)*kTileScores, kTileRowBytes);                   \
  } while (false)

/// Asks for what the next strip will read, a few lines at a time.
struct Prefetch {
  const std::byte* next = nullptr;
  std::int64_t lines = 0;  // each time

  MPISHARDS_AMX inline void step() {
    for (std::int64_t line = 0; line < lines; ++line, next += kTileRowBytes)
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
  }
};

/// Multiplies a panel by up to 32 queries, and filters the block before it meanwhile.
template <PlaneType kType, bool kWide>
MPISHARDS_AMX inline void multiply_block(Run<kType>& run, const Block& block, const std::byte* panel,
                                         const std::byte* queries,
                                         const typename ScoreOf<kType>::Type* bias_tiles,
                                         Prefetch& prefetch) {
  MPISHARDS_EXCHANGE(0, 0);
  _tile_loadd(4, panel, kTileRowBytes);
  _tile_loadd(6, queries, kTileRowBytes);
  MPISHARDS_MULTIPLY(0, 4, 6);
  MPISHARDS_EXCHANGE(2, 1);
  _tile_loadd(5, panel + kTileBytes, kTileRowBytes);
  MPISHARDS_MULTIPLY(2, 5, 6);
  if (run.is_pending && run.pending.is_wide && !kWide) {
    _tile_stored(1, run.scores + kTileScores, kTileRowBytes);
    _tile_stored(3, run.scores + 3 * kTileScores, kTileRowBytes);
  }
  if constexpr (kWide) {
    MPISHARDS_EXCHANGE(1, 0);
    _tile_loadd(7, queries + kTileBytes, kTileRowBytes);
    MPISHARDS_MULTIPLY(1, 4, 7);
    MPISHARDS_EXCHANGE(3, 1);
    MPISHARDS_MULTIPLY(3, 5, 7);
  }
  prefetch.step();
  std::int64_t part = 0;
  for (std::int64_t k = 1; k < run.tile.row_tiles; ++k) {
    panel += 2 * kTileBytes;
    queries += 2 * kTileBytes;
    _tile_loadd(4, panel, kTileRowBytes);
    _tile_loadd(6, queries, kTileRowBytes);
    MPISHARDS_MULTIPLY(0, 4, 6);
    _tile_loadd(5, panel + kTileBytes, kTileRowBytes);
    MPISHARDS_MULTIPLY(2, 5, 6);
    if constexpr (kWide) {
      _tile_loadd(7, queries + kTileBytes, kTileRowBytes);
      MPISHARDS_MULTIPLY(1, 4, 7);
      MPISHARDS_MULTIPLY(3, 5, 7);
    }
    filter_part(run, part++);
    prefetch.step();
  }
  for (; part < kBlockTiles; ++part) filter_part(run, part);
  run.pending = block;
  run.is_pending = true;
}

template <PlaneType kType>
MPISHARDS_AMX void filter_last_block(Run<kType>& run) {
  if (!run.is_pending) return;
  _tile_stored(0, run.scores, kTileRowBytes);
  _tile_stored(1, run.scores + kTileScores, kTileRowBytes);
  _tile_stored(2, run.scores + 2 * kTileScores, kTileRowBytes);
  _tile_stored(3, run.scores + 3 * kTileScores, kTileRowBytes);
  for (std::int64_t part = 0; part < kBlockTiles; ++part) filter_part(run, part);
  run.is_pending = false;
}

#undef MPISHARDS_EXCHANGE
#undef MPISHARDS_MULTIPLY

/// Each row's bias 16 times, as the sums begin with it.
template <PlaneType kType>
MPISHARDS_AMX void fill_bias_tiles(Run<kType>& run, std::int64_t first_row, std::int64_t rows) {
  const auto* const bias = static_cast<const typename ScoreOf<kType>::Type*>(run.tile.bias) + first_row;
  for (std::int64_t row = 0; row < rows; ++row)
    std::fill_n(run.bias_tiles + row * kTileRows, kTileRows,
                first_row + row < run.tile.n_rows ? bias[row] : 0);
}

template <PlaneType kType>
MPISHARDS_AMX void screen_strip(Run<kType>& run, std::int64_t first_panel, std::int64_t panels) {
  // Compilers don't know that the strip before this one has loaded what is overwritten now.
  __asm__ volatile("" ::: "memory");
  const PlaneTile& tile = run.tile;
  const std::int64_t panel_bytes = tile.row_tiles * 2 * kTileBytes;
  const std::byte* const strip = tile.rows + first_panel * panel_bytes;
  if (tile.bias != nullptr) fill_bias_tiles(run, first_panel * kPanelRows, panels * kPanelRows);
  // Nor that this one loads what was just stored.
  __asm__ volatile("" ::: "memory");
  const std::int64_t query_panels = panels_of(tile.n_queries);
  Prefetch prefetch{strip + panels * panel_bytes, (2 * kTileRows + query_panels - 1) / query_panels};
  if ((first_panel + panels) * kPanelRows >= tile.n_rows) prefetch.lines = 0;
  for (std::int64_t q = 0; q < query_panels; ++q) {
    const std::byte* const queries = tile.queries + q * panel_bytes;
    const bool is_wide = tile.n_queries - q * kPanelRows > kTileRows;
    for (std::int64_t p = 0; p < panels; ++p) {
      const Block block{(first_panel + p) * kPanelRows, q * kPanelRows, is_wide};
      const auto* const bias = tile.bias == nullptr ? nullptr : run.bias_tiles + p * kPanelRows * kTileRows;
      if (is_wide)
        multiply_block<kType, true>(run, block, strip + p * panel_bytes, queries, bias, prefetch);
      else
        multiply_block<kType, false>(run, block, strip + p * panel_bytes, queries, bias, prefetch);
    }
  }
}

template <PlaneType kType>
MPISHARDS_AMX void screen_as(const PlaneTile& tile, CandidateSink& sink) {
  using Score = typename ScoreOf<kType>::Type;
  auto* const scores = reinterpret_cast<Score*>(tile.scratch);
  auto* const bias_tiles = scores + kBlockTiles * kTileScores;
  auto* const thresholds = bias_tiles + kMostStripPanels * 2 * kTileScores;
  Run<kType> run{tile, sink, scores, bias_tiles, thresholds, false, {}};
  if (tile.thresholds != nullptr)
    for (std::int64_t q = 0; q < padded_queries(tile.n_queries); ++q) run.refresh_threshold(q);
  // Static: of a local one GCC 12 would keep the eight bytes that it believes are read.
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
  const std::int64_t panels = panels_of(tile.n_rows);
  const std::int64_t strip =
      std::clamp<std::int64_t>(kStripBytes / (tile.row_tiles * 2 * kTileBytes), 1, kMostStripPanels);
  for (std::int64_t panel = 0; panel < panels; panel += strip)
    screen_strip(run, panel, std::min(strip, panels - panel));
  filter_last_block(run);
  _tile_release();
}

/// Adds squares of eight values and of what is left of them.
struct Squares {
  __m512d values;
  __m512d residual;

  MPISHARDS_AMX inline void add(__m512d exact, __m512d stored) {
    const __m512d lost = _mm512_sub_pd(exact, stored);
    values = _mm512_fmadd_pd(stored, stored, values);
    residual = _mm512_fmadd_pd(lost, lost, residual);
  }
  MPISHARDS_AMX inline PackedSquares total() const {
    return {_mm512_reduce_add_pd(values), _mm512_reduce_add_pd(residual)};
  }
};

MPISHARDS_AMX PackedSquares quantize_bf16(const double* values, std::int64_t count, std::byte* bytes) {
  Squares squares{_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m512d low = _mm512_loadu_pd(values + i);
    const __m512d high = _mm512_loadu_pd(values + i + 8);
    const __m512 floats =
        _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
    // Rounds to nearest, and subnormal numbers to zero.
    const auto halves = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(floats));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + 2 * i), halves);
    const __m512 stored = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    squares.add(low, _mm512_cvtps_pd(_mm512_castps512_ps256(stored)));
    squares.add(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(stored, 1)));
  }
  return squares.total();
}

MPISHARDS_AMX PackedSquares quantize_bytes(const double* values, std::int64_t count, double lowest,
                                           double highest, double scale, std::byte* bytes) {
  const __m512d unit = _mm512_set1_pd(scale);
  const __m512d inverse = _mm512_set1_pd(1 / scale);
  Squares squares{_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m512d exact = _mm512_loadu_pd(values + i);
    const __m512d scaled = _mm512_roundscale_pd(_mm512_mul_pd(exact, inverse), _MM_FROUND_TO_NEAREST_INT);
    const __m512d whole =
        _mm512_min_pd(_mm512_max_pd(scaled, _mm512_set1_pd(lowest)), _mm512_set1_pd(highest));
    _mm_storeu_si64(bytes + i, _mm512_cvtepi64_epi8(_mm512_cvtpd_epi64(whole)));
    squares.add(exact, _mm512_mul_pd(whole, unit));
  }
  return squares.total();
}

}  // namespace

bool is_supported() {
  static const bool is = avx512::is_supported() && has_instructions() && gets_tile_registers();
  return is;
}

PackedSquares quantize(PlaneType type, const double* values, std::int64_t row_tiles, double scale,
                       std::byte* bytes) {
  const std::int64_t count = row_tiles * kTileRowBytes / bytes_per_value(type);
  if (type == PlaneType::bf16) return quantize_bf16(values, count, bytes);
  if (type == PlaneType::s8) return quantize_bytes(values, count, -128, 127, scale, bytes);
  return quantize_bytes(values, count, 0, 255, scale, bytes);
}

std::int64_t scratch_bytes(std::int64_t n_queries, std::int64_t) {
  constexpr auto kScore = static_cast<std::int64_t>(sizeof(float));
  return (kBlockTiles * kTileScores + kMostStripPanels * 2 * kTileScores + padded_queries(n_queries)) *
         kScore;
}

void screen(const PlaneTile& tile, CandidateSink& sink) {
  if (tile.type == PlaneType::bf16)
    screen_as<PlaneType::bf16>(tile, sink);
  else if (tile.type == PlaneType::s8)
    screen_as<PlaneType::s8>(tile, sink);
  else
    screen_as<PlaneType::u8>(tile, sink);
}

MPISHARDS_AMX void kth_largest(const float* values, std::int64_t rows, std::int64_t columns, std::int64_t k,
                               float* out) {
  constexpr int kHalvings = 14;
  const __m512i enough = _mm512_set1_epi32(static_cast<int>(k));
  for (std::int64_t column = 0; column < columns; column += kTileRows) {
    const float* const first = values + column;
    __m512 low = _mm512_loadu_ps(first);
    __m512 high = low;
    for (std::int64_t row = 1; row < rows; ++row) {
      const __m512 value = _mm512_loadu_ps(first + row * columns);
      low = _mm512_min_ps(low, value);
      high = _mm512_max_ps(high, value);
    }
    for (int step = 0; step < kHalvings; ++step) {
      const __m512 middle = _mm512_fmadd_ps(_mm512_sub_ps(high, low), _mm512_set1_ps(0.5f), low);
      __m512i count = _mm512_setzero_si512();
      for (std::int64_t row = 0; row < rows; ++row) {
        const __mmask16 reach =
            _mm512_cmp_ps_mask(_mm512_loadu_ps(first + row * columns), middle, _CMP_GE_OQ);
        count = _mm512_mask_add_epi32(count, reach, count, _mm512_set1_epi32(1));
      }
      const __mmask16 is_reached = _mm512_cmpge_epi32_mask(count, enough);
      low = _mm512_mask_mov_ps(low, is_reached, middle);
      high = _mm512_mask_mov_ps(middle, is_reached, high);
    }
    _mm512_storeu_ps(out + column, low);
  }
}

}  // namespace mpishards::kernels::cpu::amx
#undef MPISHARDS_AMX
#endif

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
constexpr std::int64_t kMostStripPanels = 8;
constexpr std::int64_t kBlockTiles = 4;  // of 16 x 16 scores

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

/// What the sums of a tile are, and so how they become scores.
enum class Sums : std::uint8_t {
  floats,    // of bfloat16
  scaled,    // of scaled bytes: integers in units of each query
  integers,  // of bytes as they are: scores without a rounding
};

template <Sums kSums>
struct ScoreOf {
  using Type = float;
};
template <>
struct ScoreOf<Sums::integers> {
  using Type = std::int32_t;
};

/// A sum below this is a score below the float threshold.
template <Sums kSums>
typename ScoreOf<kSums>::Type threshold_of(float threshold) {
  if constexpr (kSums != Sums::integers) return threshold;
  constexpr double kLowest = std::numeric_limits<std::int32_t>::min();
  constexpr double kHighest = std::numeric_limits<std::int32_t>::max();
  return static_cast<typename ScoreOf<kSums>::Type>(
      std::clamp(std::floor(static_cast<double>(threshold)), kLowest, kHighest));
}

/// What four registers of 16 x 16 sums belong to: (rows 0-15, queries 0-15), (0-15, 16-31), (16-31, 0-15),
/// (16-31, 16-31).
struct Block {
  std::int64_t first_row = 0;
  std::int64_t first_query = 0;
  int row_tiles = 0;     // of 16 rows
  bool is_wide = false;  // more than 16 queries
};

/// The sums of 16 rows and 16 queries in memory.
struct TileSums {
  std::int64_t first_row = 0;
  std::int64_t first_query = 0;
  const std::byte* sums = nullptr;
};

/// One run over a tile of the base: what its blocks have in common.
template <Sums kSums>
struct Run {
  using Score = typename ScoreOf<kSums>::Type;

  const PlaneTile& tile;
  CandidateSink& sink;
  std::byte* sums;            // kBlockTiles of them
  Score* thresholds;          // one a query, padded
  const Score* bias;          // one a row; null: zeros
  const Score* group_bias;    // largest of 16 rows; or one zero
  std::int64_t group_stride;  // from one to the next

  bool has_sums = false;
  Block block = {};  // in the tile registers, or on its way to `sums`

  void refresh_threshold(std::int64_t query) {
    thresholds[query] = threshold_of<kSums>(tile.thresholds[query]);
  }
  const Score* bias_of(std::int64_t row) const {
    static constexpr Score kNoBias[kTileRows] = {};
    return bias == nullptr ? kNoBias : bias + row;
  }
};

MPISHARDS_AMX inline __m512 larger_of(__m512 a, __m512 b) {
  return _mm512_max_ps(a, b);
}

MPISHARDS_AMX inline __m512i larger_of(__m512i a, __m512i b) {
  return _mm512_max_epi32(a, b);
}

template <Sums kSums, class Vector>
MPISHARDS_AMX inline auto score_of(Vector sums, typename ScoreOf<kSums>::Type bias, __m512 units) {
  if constexpr (kSums == Sums::floats)
    return _mm512_add_ps(sums, _mm512_set1_ps(bias));
  else if constexpr (kSums == Sums::scaled)
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), units, _mm512_set1_ps(bias));
  else
    return _mm512_add_epi32(sums, _mm512_set1_epi32(bias));
}

/// Scores of one row and 16 queries.
template <Sums kSums>
MPISHARDS_AMX inline auto scores_of(const std::byte* sums, typename ScoreOf<kSums>::Type bias, __m512 units) {
  if constexpr (kSums == Sums::floats)
    return score_of<kSums>(_mm512_load_ps(sums), bias, units);
  else
    return score_of<kSums>(_mm512_load_si512(sums), bias, units);
}

template <Sums kSums>
MPISHARDS_AMX inline __m512 units_of(const Run<kSums>& run, std::int64_t first_query) {
  if constexpr (kSums == Sums::scaled) return _mm512_load_ps(run.tile.units + first_query);
  return _mm512_undefined_ps();
}

MPISHARDS_AMX inline std::uint32_t not_below(__m512 scores, const float* thresholds) {
  return _mm512_cmp_ps_mask(scores, _mm512_load_ps(thresholds), _CMP_GE_OQ);
}

MPISHARDS_AMX inline std::uint32_t not_below(__m512i scores, const std::int32_t* thresholds) {
  return _mm512_cmpge_epi32_mask(scores, _mm512_load_si512(thresholds));
}

MPISHARDS_AMX inline __m512 as_floats(__m512 scores) {
  return scores;
}

MPISHARDS_AMX inline __m512 as_floats(__m512i scores) {
  return _mm512_cvtepi32_ps(scores);
}

/// Scores of 16 rows and one query.
template <Sums kSums>
MPISHARDS_AMX inline auto scores_of_query(const Run<kSums>& run, const TileSums& tile, std::int64_t lane) {
  const __m512i lines =
      _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
  const __m512i sums = _mm512_i32gather_epi32(lines, tile.sums + lane * 4, 4);
  const auto* const bias = run.bias_of(tile.first_row);
  if constexpr (kSums == Sums::floats)
    return _mm512_add_ps(_mm512_castsi512_ps(sums), _mm512_loadu_ps(bias));
  else if constexpr (kSums == Sums::scaled)
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(run.tile.units[tile.first_query + lane]),
                           _mm512_loadu_ps(bias));
  else
    return _mm512_add_epi32(sums, _mm512_loadu_si512(bias));
}

MPISHARDS_AMX inline std::uint32_t not_below(__m512 scores, float threshold) {
  return _mm512_cmp_ps_mask(scores, _mm512_set1_ps(threshold), _CMP_GE_OQ);
}

MPISHARDS_AMX inline std::uint32_t not_below(__m512i scores, std::int32_t threshold) {
  return _mm512_cmpge_epi32_mask(scores, _mm512_set1_epi32(threshold));
}

/// Hits are rare: this stays out of the hot loop.
/// @param queries  a bit for each query of the tile that may have hits
template <Sums kSums>
MPISHARDS_AMX __attribute__((noinline)) void report(Run<kSums>& run, const TileSums& tile,
                                                    std::uint32_t queries) {
  alignas(kTileRowBytes) float scores[kTileRows];
  const std::int64_t rows = std::clamp<std::int64_t>(run.tile.n_rows - tile.first_row, 0, kTileRows);
  const auto is_row = static_cast<std::uint32_t>((std::uint64_t{1} << rows) - 1);
  for (; queries != 0; queries &= queries - 1) {
    const std::int64_t lane = std::countr_zero(queries);
    const std::int64_t query = tile.first_query + lane;
    if (query >= run.tile.n_queries) return;
    const auto of_query = scores_of_query(run, tile, lane);
    std::uint32_t hits = not_below(of_query, run.thresholds[query]) & is_row;
    if (hits == 0) continue;
    _mm512_store_ps(scores, as_floats(of_query));
    for (; hits != 0; hits &= hits - 1) {
      const std::int64_t row = std::countr_zero(hits);
      run.sink.add(query, tile.first_row + row, scores[row]);
    }
    run.refresh_threshold(query);
  }
}

/// The largest sum of each query.
template <Sums kSums>
MPISHARDS_AMX inline auto largest_sums(const std::byte* sums) {
  constexpr int kChains = 4;
  const auto row = [sums](int number) MPISHARDS_AMX {
    const std::byte* const at = sums + number * kTileRowBytes;
    if constexpr (kSums == Sums::floats)
      return _mm512_load_ps(at);
    else
      return _mm512_load_si512(at);
  };
  decltype(row(0)) best[kChains] = {row(0), row(1), row(2), row(3)};
#pragma GCC unroll 16
  for (int number = kChains; number < kTileRows; ++number)
    best[number % kChains] = larger_of(best[number % kChains], row(number));
  return larger_of(larger_of(best[0], best[1]), larger_of(best[2], best[3]));
}

/// Keeps the best score of each query.
template <Sums kSums>
MPISHARDS_AMX __attribute__((noinline)) void keep_maxima(Run<kSums>& run, const TileSums& tile) {
  const std::int64_t group = tile.first_row / kTileRows;
  if ((group + 1) * kTileRows > run.tile.n_rows) return;
  const auto units = units_of(run, tile.first_query);
  const auto* const bias = run.bias_of(tile.first_row);
  auto best = scores_of<kSums>(tile.sums, bias[0], units);
  for (std::int64_t row = 1; row < kTileRows; ++row)
    best = larger_of(best, scores_of<kSums>(tile.sums + row * kTileRowBytes, bias[row], units));
  _mm512_storeu_ps(run.tile.group_maxima + tile.first_query * run.tile.groups + group * kTileRows,
                   as_floats(best));
}

/// Looks for hits in a tile: if the largest sum with the largest bias is below a query's threshold, so are
/// all of its scores.
template <Sums kSums>
MPISHARDS_AMX inline void filter(Run<kSums>& run, const TileSums& tile) {
  if (run.tile.group_maxima != nullptr) return keep_maxima(run, tile);
  const auto best = score_of<kSums>(largest_sums<kSums>(tile.sums),
                                    run.group_bias[tile.first_row / kTileRows * run.group_stride],
                                    units_of(run, tile.first_query));
  const std::uint32_t queries = not_below(best, run.thresholds + tile.first_query);
  if (__builtin_expect(queries != 0, 0)) report(run, tile, queries);
}

template <Sums kSums>
MPISHARDS_AMX inline void filter_sum(Run<kSums>& run, std::int64_t sum) {
  const std::int64_t row = sum / 2;
  const std::int64_t column = sum % 2;
  if (!run.has_sums || row >= run.block.row_tiles || (column == 1 && !run.block.is_wide)) return;
  filter(run, {run.block.first_row + row * kTileRows, run.block.first_query + column * kTileRows,
               run.sums + sum * kTileBytes});
}

// Register numbers are part of the instructions.
#define MPISHARDS_MULTIPLY(sum, rows, queries) \
  do {                                         \
    if constexpr (kType == PlaneType::bf16)    \
      _tile_dpbf16ps(sum, rows, queries);      \
    else if constexpr (kType == PlaneType::s8) \
      _tile_dpbssd(sum, rows, queries);        \
    else                                       \
      _tile_dpbuud(sum, rows, queries);        \
  } while (false)

#define MPISHARDS_STORE(sum) _tile_stored(sum, run.sums + (sum)*kTileBytes, kTileRowBytes)

// What a register has summed goes to memory just before it begins with zeros again.
#define MPISHARDS_BEGIN(sum)                \
  do {                                      \
    if (run.has_sums) MPISHARDS_STORE(sum); \
    _tile_zero(sum);                        \
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

/// A strip of rows and a panel of queries.
struct StripView {
  const std::byte* rows = nullptr;
  const std::byte* queries = nullptr;
  std::int64_t first_row = 0;
  std::int64_t panels = 0;
  std::int64_t first_query = 0;
};

/// Short rows: a panel's queries stay in registers while the rows pass, 16 at a time. Those before are
/// filtered meanwhile.
///
/// Where two threads share a core, loads beside each other, and products into one register, cost least.
template <PlaneType kType, Sums kSums, int kTiles, bool kWide>
MPISHARDS_AMX void multiply_short(Run<kSums>& run, const StripView& strip, Prefetch& prefetch) {
  static_assert(kTiles == 1 || kTiles == 2);
  _tile_loadd(4, strip.queries, kTileRowBytes);
  if constexpr (kTiles == 2) _tile_loadd(5, strip.queries + 2 * kTileBytes, kTileRowBytes);
  if constexpr (kWide) _tile_loadd(6, strip.queries + kTileBytes, kTileRowBytes);
  if constexpr (kWide && kTiles == 2) _tile_loadd(7, strip.queries + 3 * kTileBytes, kTileRowBytes);
  for (std::int64_t tile = 0; tile < 2 * strip.panels; ++tile) {
    const std::byte* const rows = strip.rows + (tile / 2 * kTiles * 2 + tile % 2) * kTileBytes;
    MPISHARDS_BEGIN(0);
    _tile_loadd(2, rows, kTileRowBytes);
    if constexpr (kTiles == 2) _tile_loadd(3, rows + 2 * kTileBytes, kTileRowBytes);
    MPISHARDS_MULTIPLY(0, 2, 4);
    if constexpr (kTiles == 2) MPISHARDS_MULTIPLY(0, 3, 5);
    filter_sum(run, 0);
    MPISHARDS_BEGIN(1);
    if constexpr (kWide) {
      MPISHARDS_MULTIPLY(1, 2, 6);
      if constexpr (kTiles == 2) MPISHARDS_MULTIPLY(1, 3, 7);
    }
    filter_sum(run, 1);
    prefetch.step();
    run.has_sums = true;
    run.block = {strip.first_row + tile * kTileRows, strip.first_query, 1, kWide};
  }
}

/// Long rows: 32 rows by 32 queries in four registers. The block before is filtered meanwhile.
template <PlaneType kType, Sums kSums, bool kWide>
MPISHARDS_AMX void multiply_long(Run<kSums>& run, const StripView& strip, Prefetch& prefetch) {
  const std::int64_t row_tiles = run.tile.row_tiles;
  const std::byte* rows = strip.rows;
  for (std::int64_t panel = 0; panel < strip.panels; ++panel) {
    const std::byte* queries = strip.queries;
    for (std::int64_t k = 0; k < row_tiles; ++k, rows += 2 * kTileBytes, queries += 2 * kTileBytes) {
      _tile_loadd(4, rows, kTileRowBytes);
      _tile_loadd(6, queries, kTileRowBytes);
      _tile_loadd(5, rows + kTileBytes, kTileRowBytes);
      if constexpr (kWide) _tile_loadd(7, queries + kTileBytes, kTileRowBytes);
      if (k == 0) MPISHARDS_BEGIN(0);
      MPISHARDS_MULTIPLY(0, 4, 6);
      if (k == 0) MPISHARDS_BEGIN(2);
      MPISHARDS_MULTIPLY(2, 5, 6);
      if (k == 0) {
        MPISHARDS_BEGIN(1);
        MPISHARDS_BEGIN(3);
      }
      if constexpr (kWide) {
        MPISHARDS_MULTIPLY(1, 4, 7);
        MPISHARDS_MULTIPLY(3, 5, 7);
      }
      prefetch.step();
      if (k < kBlockTiles) filter_sum(run, k);
    }
    for (std::int64_t sum = row_tiles; sum < kBlockTiles; ++sum) filter_sum(run, sum);
    run.has_sums = true;
    run.block = {strip.first_row + panel * kPanelRows, strip.first_query, 2, kWide};
  }
}

template <Sums kSums>
MPISHARDS_AMX void filter_last_block(Run<kSums>& run) {
  MPISHARDS_STORE(0);
  MPISHARDS_STORE(1);
  MPISHARDS_STORE(2);
  MPISHARDS_STORE(3);
  for (std::int64_t sum = 0; sum < kBlockTiles; ++sum) filter_sum(run, sum);
}

#undef MPISHARDS_BEGIN
#undef MPISHARDS_STORE
#undef MPISHARDS_MULTIPLY

template <PlaneType kType, Sums kSums, bool kWide>
MPISHARDS_AMX void multiply(Run<kSums>& run, const StripView& strip, Prefetch& prefetch) {
  if (run.tile.row_tiles == 1)
    multiply_short<kType, kSums, 1, kWide>(run, strip, prefetch);
  else if (run.tile.row_tiles == 2)
    multiply_short<kType, kSums, 2, kWide>(run, strip, prefetch);
  else
    multiply_long<kType, kSums, kWide>(run, strip, prefetch);
}

template <PlaneType kType, Sums kSums>
MPISHARDS_AMX void screen_strip(Run<kSums>& run, std::int64_t first_panel, std::int64_t panels) {
  const PlaneTile& tile = run.tile;
  const std::int64_t panel_bytes = tile.row_tiles * 2 * kTileBytes;
  const std::int64_t query_panels = panels_of(tile.n_queries);
  StripView strip;
  strip.rows = tile.rows + first_panel * panel_bytes;
  strip.first_row = first_panel * kPanelRows;
  strip.panels = panels;
  // A step is two tiles of rows, or one of short ones.
  const std::int64_t lines_a_step = (tile.row_tiles <= 2 ? tile.row_tiles : 2) * kTileRows;
  Prefetch prefetch{strip.rows + panels * panel_bytes, (lines_a_step + query_panels - 1) / query_panels};
  if ((first_panel + panels) * kPanelRows >= tile.n_rows) prefetch.lines = 0;
  for (std::int64_t q = 0; q < query_panels; ++q) {
    strip.queries = tile.queries + q * panel_bytes;
    strip.first_query = q * kPanelRows;
    if (tile.n_queries - strip.first_query > kTileRows)
      multiply<kType, kSums, true>(run, strip, prefetch);
    else
      multiply<kType, kSums, false>(run, strip, prefetch);
  }
}

template <PlaneType kType, Sums kSums>
MPISHARDS_AMX void screen_as(const PlaneTile& tile, CandidateSink& sink) {
  using Score = typename ScoreOf<kSums>::Type;
  static constexpr Score kNoBias = 0;
  auto* const thresholds = reinterpret_cast<Score*>(tile.scratch + kBlockTiles * kTileBytes);
  const auto* const bias = static_cast<const Score*>(tile.bias);
  const auto* const group_bias = static_cast<const Score*>(tile.group_bias);
  Run<kSums> run{tile,
                 sink,
                 tile.scratch,
                 thresholds,
                 bias,
                 bias == nullptr ? &kNoBias : group_bias,
                 bias == nullptr ? 0 : 1};
  if (tile.thresholds != nullptr)
    for (std::int64_t q = 0; q < padded_queries(tile.n_queries); ++q) run.refresh_threshold(q);
  // Compilers don't know that tile instructions load what was stored before.
  __asm__ volatile("" ::: "memory");
  // Static: of a local one GCC 12 would keep the eight bytes that it believes are read.
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
  const std::int64_t panels = panels_of(tile.n_rows);
  const std::int64_t strip =
      std::clamp<std::int64_t>(kStripBytes / (tile.row_tiles * 2 * kTileBytes), 1, kMostStripPanels);
  for (std::int64_t panel = 0; panel < panels; panel += strip)
    screen_strip<kType>(run, panel, std::min(strip, panels - panel));
  filter_last_block(run);
  _tile_release();
}

/// @param count  of values; those behind are zeros
MPISHARDS_AMX inline __m512d load_wide(const float* values, std::int64_t count) {
  const auto mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1);
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, values));
}

template <bool kCentered>
MPISHARDS_AMX CenteredSums subtract(const float* x, double factor, const float* center, std::int64_t d,
                                    double* values) {
  // Two chains of sums: one would wait for each of its own results.
  __m512d squares[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  __m512d largest[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  const __m512d factors = _mm512_set1_pd(factor);
  const auto step = [&](int chain, std::int64_t i, std::int64_t count) MPISHARDS_AMX {
    __m512d value = _mm512_mul_pd(factors, load_wide(x + i, count));
    if constexpr (kCentered) value = _mm512_sub_pd(value, load_wide(center + i, count));
    _mm512_mask_storeu_pd(values + i, static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1), value);
    squares[chain] = _mm512_fmadd_pd(value, value, squares[chain]);
    largest[chain] = _mm512_max_pd(largest[chain], _mm512_abs_pd(value));
  };
  std::int64_t i = 0;
  for (; i + 16 <= d; i += 16) {
    step(0, i, 8);
    step(1, i + 8, 8);
  }
  for (; i < d; i += 8) step(0, i, d - i);
  return {_mm512_reduce_max_pd(_mm512_max_pd(largest[0], largest[1])),
          _mm512_reduce_add_pd(_mm512_add_pd(squares[0], squares[1]))};
}

/// Rows become columns.
MPISHARDS_AMX inline void transpose(__m512i (&words)[kTileRows]) {
  __m512i pairs[kTileRows];
  __m512i fours[kTileRows];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(words[i], words[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(words[i], words[i + 1]);
  }
  // In each quarter q of fours[i + j]: column 4 q + j of rows i to i + 3.
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  constexpr int kEven = 0x88;  // quarters 0 and 2 of either
  constexpr int kOdd = 0xdd;
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], kEven);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], kEven);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], kOdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], kOdd);
    words[j] = _mm512_shuffle_i32x4(even_low, even_high, kEven);
    words[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, kEven);
    words[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, kOdd);
    words[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, kOdd);
  }
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

CenteredSums subtract_center(const float* x, double factor, const float* center, std::int64_t d,
                             double* values) {
  return center == nullptr ? subtract<false>(x, factor, center, d, values)
                           : subtract<true>(x, factor, center, d, values);
}

MPISHARDS_AMX void interleave(const std::byte* rows, std::int64_t row_tiles, std::byte* out) {
  for (std::int64_t tile = 0; tile < row_tiles; ++tile, rows += kTileRowBytes, out += 2 * kTileBytes) {
    __m512i words[kTileRows];
#pragma GCC unroll 16
    for (int row = 0; row < kTileRows; ++row)
      words[row] = _mm512_loadu_si512(rows + row * row_tiles * kTileRowBytes);
    transpose(words);
#pragma GCC unroll 16
    for (int row = 0; row < kTileRows; ++row) _mm512_storeu_si512(out + row * kTileRowBytes, words[row]);
  }
}

PackedSquares quantize(PlaneType type, const double* values, std::int64_t row_tiles, double scale,
                       std::byte* bytes) {
  const std::int64_t count = row_tiles * kTileRowBytes / bytes_per_value(type);
  if (type == PlaneType::bf16) return quantize_bf16(values, count, bytes);
  if (type == PlaneType::s8) return quantize_bytes(values, count, -128, 127, scale, bytes);
  return quantize_bytes(values, count, 0, 255, scale, bytes);
}

std::int64_t scratch_bytes(std::int64_t n_queries, std::int64_t) {
  return kBlockTiles * kTileBytes + padded_queries(n_queries) * static_cast<std::int64_t>(sizeof(float));
}

void screen(const PlaneTile& tile, CandidateSink& sink) {
  if (tile.type == PlaneType::bf16)
    screen_as<PlaneType::bf16, Sums::floats>(tile, sink);
  else if (tile.type == PlaneType::u8)
    screen_as<PlaneType::u8, Sums::integers>(tile, sink);
  else if (tile.units != nullptr)
    screen_as<PlaneType::s8, Sums::scaled>(tile, sink);
  else
    screen_as<PlaneType::s8, Sums::integers>(tile, sink);
}

MPISHARDS_AMX void kth_largest(const float* values, std::int64_t rows, std::int64_t k, float* out) {
  constexpr int kHalvings = 14;
  const __m512i enough = _mm512_set1_epi32(static_cast<int>(k));
  __m512 low = _mm512_loadu_ps(values);
  __m512 high = low;
  for (std::int64_t row = 1; row < rows; ++row) {
    const __m512 value = _mm512_loadu_ps(values + row * kTileRows);
    low = _mm512_min_ps(low, value);
    high = _mm512_max_ps(high, value);
  }
  if (k == 1) return _mm512_storeu_ps(out, high);
  for (int step = 0; step < kHalvings; ++step) {
    const __m512 middle = _mm512_fmadd_ps(_mm512_sub_ps(high, low), _mm512_set1_ps(0.5f), low);
    __m512i count = _mm512_setzero_si512();
    for (std::int64_t row = 0; row < rows; ++row) {
      const __mmask16 reach =
          _mm512_cmp_ps_mask(_mm512_loadu_ps(values + row * kTileRows), middle, _CMP_GE_OQ);
      count = _mm512_mask_add_epi32(count, reach, count, _mm512_set1_epi32(1));
    }
    const __mmask16 is_reached = _mm512_cmpge_epi32_mask(count, enough);
    low = _mm512_mask_mov_ps(low, is_reached, middle);
    high = _mm512_mask_mov_ps(middle, is_reached, high);
  }
  _mm512_storeu_ps(out, low);
}

}  // namespace mpishards::kernels::cpu::amx
#undef MPISHARDS_AMX
#endif

#include "kernels/cuda/flat_kernels.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "core/half.hpp"
#include "core/topk.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/distance.hpp"

namespace mpishards::kernels::cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPackThreads = 256;
constexpr int kFilterThreads = 256;
// Scores of one block of the filter: whole bounds, and enough of them for its launch to pay.
constexpr int kFilterRows = 2048;
constexpr int kFilterBounds = kFilterRows / kBoundRows;
constexpr int kSettleThreads = 128;
constexpr int kSettleBlocks = 8;  // a multiprocessor: what the plan makes scratch for
constexpr int kDigits = 256;
// Neighbors sorted in shared memory: k = 10 and what its bounds leave, many times over.
constexpr int kSharedSort = 1024;

// ---- Values as stored ----

template <DType kDType>
struct Stored;
template <>
struct Stored<DType::f32> {
  using Type = float;
};
template <>
struct Stored<DType::f16> {
  using Type = std::uint16_t;
};
template <>
struct Stored<DType::bf16> {
  using Type = std::uint16_t;
};
template <>
struct Stored<DType::f64> {
  using Type = double;
};
template <>
struct Stored<DType::u8> {
  using Type = std::uint8_t;
};
template <>
struct Stored<DType::i8> {
  using Type = std::int8_t;
};

/// Value i of a row, as float32: what the CPU's conversion gives, too.
template <DType kDType>
__device__ float stored_value(const std::byte* row, std::int64_t i) {
  const auto value = reinterpret_cast<const typename Stored<kDType>::Type*>(row)[i];
  if constexpr (kDType == DType::f16) return half_to_float(value);
  if constexpr (kDType == DType::bf16) return bfloat16_to_float(value);
  return static_cast<float>(value);
}

template <DType kDType>
__device__ const std::byte* stored_row(const StoredRows& rows, std::int64_t row) {
  return rows.values + row * rows.d * static_cast<std::int64_t>(sizeof(typename Stored<kDType>::Type));
}

/// Calls body with the dtype as a constant: the instances that exist.
template <class Body>
void with_dtype(DType dtype, Body body) {
  switch (dtype) {
    case DType::f32:
      return body(std::integral_constant<DType, DType::f32>());
    case DType::f16:
      return body(std::integral_constant<DType, DType::f16>());
    case DType::bf16:
      return body(std::integral_constant<DType, DType::bf16>());
    case DType::f64:
      return body(std::integral_constant<DType, DType::f64>());
    case DType::u8:
      return body(std::integral_constant<DType, DType::u8>());
    case DType::i8:
      return body(std::integral_constant<DType, DType::i8>());
    case DType::i32:
    case DType::i64:
      break;
  }
  throw Error(ErrorKind::internal, "vectors of type " + std::string(to_string(dtype)));
}

// ---- Warps ----

__device__ double warp_sum(double value) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

__device__ float larger(float a, float b) {
  return a > b ? a : b;
}

__device__ float warp_max(float value) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
    value = larger(value, __shfl_xor_sync(kAllLanes, value, lanes));
  return value;
}

/// The defined summation of LaneSum by 8 threads next to each other: each keeps the lane of its place.
/// @param term  term(i, sum): sum with term i added by a fused multiply-add
/// @return the total, in all 8 threads
template <class Term>
__device__ double lane_total(std::int64_t d, Term term) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x % LaneSum::kLanes; i < d; i += LaneSum::kLanes) sum = term(i, sum);
  // Additions commute, so both sides of an exchange hold the same bits: (0+4), then (0+4)+(2+6), then all.
  for (int lanes = LaneSum::kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  return sum;
}

// ---- Packing ----

/// Largest magnitude of all values, as bits: those of numbers that are not negative order as they do.
template <DType kDType>
__global__ void max_abs_kernel(StoredRows rows, unsigned* max_bits) {
  const std::int64_t n = rows.rows * rows.d;
  float largest = 0;
  for (std::int64_t i = blockIdx.x * std::int64_t{kPackThreads} + threadIdx.x; i < n;
       i += gridDim.x * std::int64_t{kPackThreads}) {
    largest = larger(largest, std::abs(stored_value<kDType>(rows.values, i)));
  }
  largest = warp_max(largest);
  if (threadIdx.x % kWarp == 0) atomicMax(max_bits, std::bit_cast<unsigned>(largest));
}

/// Packs one vector by one warp. @param value  value(i): value i in double, before scaling
/// @return its bound, in every thread
template <class Value>
__device__ RowBound pack_vector(std::int64_t d, std::int64_t cols, int exponent, double scaled_error,
                                std::uint16_t* plane, Value value) {
  double plane_squares = 0;
  double residual_squares = 0;
  for (std::int64_t i = threadIdx.x % kWarp; i < cols; i += kWarp) {
    const PlaneValue packed = plane_value(i < d ? std::ldexp(value(i), exponent) : 0.0);
    plane[i] = packed.bits;
    plane_squares += packed.value * packed.value;
    residual_squares += packed.residual * packed.residual;
  }
  return row_bound(warp_sum(plane_squares), warp_sum(residual_squares), d, scaled_error);
}

/// Grid: one block for kBoundRows rows; a warp packs a row at a time.
template <DType kDType>
__global__ void pack_rows_kernel(Metric metric, StoredRows rows, ScreenedRows screened) {
  __shared__ float plane_norms[kPackThreads / kWarp];
  __shared__ float residual_norms[kPackThreads / kWarp];
  const int warp = threadIdx.x / kWarp;
  const std::int64_t first = blockIdx.x * kBoundRows;
  const std::int64_t last = first + kBoundRows < rows.rows ? first + kBoundRows : rows.rows;
  RowBound largest;
  for (std::int64_t row = first + warp; row < last; row += kPackThreads / kWarp) {
    const std::byte* const stored = stored_row<kDType>(rows, row);
    std::uint16_t* const plane = screened.plane + row * screened.cols;
    double squares = 0;
    for (std::int64_t i = threadIdx.x % kWarp; i < rows.d; i += kWarp) {
      const double value = stored_value<kDType>(stored, i);
      squares += value * value;
    }
    squares = warp_sum(squares);
    const bool is_unit = metric == Metric::cosine;
    const double scale = !is_unit ? 1.0 : squares > 0 ? 1 / std::sqrt(squares) : 0.0;
    const RowBound bound =
        pack_vector(rows.d, screened.cols, screened.exponent, is_unit ? unit_row_error(rows.d) : 0.0, plane,
                    [&](std::int64_t i) { return stored_value<kDType>(stored, i) * scale; });
    if (screened.bias != nullptr && threadIdx.x % kWarp == 0)
      screened.bias[row] = static_cast<float>(-std::ldexp(squares, 2 * screened.exponent) / 2);
    largest.plane_norm = larger(largest.plane_norm, bound.plane_norm);
    largest.residual_norm = larger(largest.residual_norm, bound.residual_norm);
  }
  if (threadIdx.x % kWarp == 0) {
    plane_norms[warp] = largest.plane_norm;
    residual_norms[warp] = largest.residual_norm;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int w = 0; w < kPackThreads / kWarp; ++w) {
    largest.plane_norm = larger(largest.plane_norm, plane_norms[w]);
    largest.residual_norm = larger(largest.residual_norm, residual_norms[w]);
  }
  screened.bounds[blockIdx.x] = largest;
}

/// Grid: one warp a query.
__global__ void begin_queries_kernel(Metric metric, bool smaller_is_better, ScreenedRows rows,
                                     const float* bound, double max_row_norm, QueryChunk queries) {
  const std::int64_t query = blockIdx.x;
  const int lane = threadIdx.x;
  const float* const values = queries.values + query * queries.d;
  float max_abs = 0;
  for (std::int64_t i = lane; i < queries.d; i += kWarp) max_abs = larger(max_abs, std::abs(values[i]));
  const int exponent = plane_exponent(warp_max(max_abs));
  const RowBound row = pack_vector(queries.d, rows.cols, exponent, 0.0, queries.plane + query * rows.cols,
                                   [&](std::int64_t i) { return static_cast<double>(values[i]); });
  const double squares = lane_total(queries.d, [&](std::int64_t i, double sum) {
    return std::fma(static_cast<double>(values[i]), static_cast<double>(values[i]), sum);
  });
  for (std::int64_t place = lane; place < queries.k; place += kWarp) {
    queries.distances[query * queries.k + place] =
        smaller_is_better ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
    queries.neighbors[query * queries.k + place] = kNoNeighbor;
  }
  if (lane > 0) return;
  const ScoreCut cut(metric, queries.d, squares, max_row_norm);
  queries.bounds[query] = query_bound(metric, row, exponent, rows.exponent);
  queries.score_cuts[query] = cut;
  queries.cuts[query] =
      bound == nullptr ? -std::numeric_limits<double>::infinity() : cut.from_distance(bound[query]);
  queries.counts[query] = 0;
  queries.widened[query] = 0;
  queries.overflowed[query] = 0;
}

// ---- The filter ----

/// Grid: x queries, y parts of kFilterRows scores. A NaN is a candidate, too.
__global__ void filter_kernel(Metric metric, ScreenedRows rows, ScoredTile tile, QueryChunk queries,
                              double error_factor) {
  __shared__ float thresholds[kFilterBounds];
  const std::int64_t query = blockIdx.x;
  const std::int64_t first = blockIdx.y * std::int64_t{kFilterRows};
  const std::int64_t last = first + kFilterRows < tile.rows ? first + kFilterRows : tile.rows;
  const QueryBound& bound = queries.bounds[query];
  if (threadIdx.x < kFilterBounds) {
    const std::int64_t row = tile.first + first + threadIdx.x * kBoundRows;
    float threshold = -std::numeric_limits<float>::infinity();
    if (!tile.is_sample && first + threadIdx.x * kBoundRows < last) {
      const double error =
          half_screen_error(metric, rows.cols, bound, rows.bounds[row / kBoundRows], error_factor);
      threshold = screen_threshold(scaled_cut(queries.cuts[query], bound), error);
      if (error == std::numeric_limits<double>::infinity()) queries.widened[query] = 1;
    }
    thresholds[threadIdx.x] = threshold;
  }
  __syncthreads();
  const float* const products = tile.products + query * tile.pitch;
  Candidate* const candidates = queries.candidates + query * queries.capacity;
  for (std::int64_t i = first + threadIdx.x; i < last; i += kFilterThreads) {
    const std::int64_t row = tile.first + i * tile.stride;
    const float bias = rows.bias == nullptr ? 0.0f : rows.bias[row];
    const float score = std::fma(products[i], bound.multiplier, bias);
    if (score < thresholds[(i - first) / kBoundRows]) continue;
    const int place = atomicAdd(&queries.counts[query], 1);
    candidates[place] = {score, static_cast<std::uint32_t>(row)};
  }
}

// ---- Settling ----

/// Monotone: the larger score has the larger key.
__device__ unsigned score_key(float score) {
  const auto bits = std::bit_cast<unsigned>(score);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ float score_of_key(unsigned key) {
  return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/// What a block's threads share while they settle a query.
struct SettleShared {
  unsigned digits[kDigits];
  unsigned digit;
  unsigned rank;
  int warp_counts[kSettleThreads / kWarp];
  Neighbor sorted[kSharedSort];
};

/// One block's work on one query. All functions are called by all threads of the block.
struct BlockQuery {
  Metric metric;
  Closer closer;
  // Of the kernel's parameters, which stay in constant memory.
  const StoredRows& rows;
  const ScreenedRows& screened;
  const QueryChunk& queries;
  double error_factor;
  std::int64_t query;
  SettleShared& shared;

  __device__ Candidate* candidates() const { return queries.candidates + query * queries.capacity; }
  __device__ const QueryBound& bound() const { return queries.bounds[query]; }
  __device__ double error(const Candidate& candidate) const {
    return half_screen_error(metric, screened.cols, bound(), screened.bounds[candidate.row / kBoundRows],
                             error_factor);
  }
  __device__ void raise_cut(double cut) const {
    if (threadIdx.x == 0 && cut > queries.cuts[query]) queries.cuts[query] = cut;
    __syncthreads();
  }

  /// The rank-th largest lower bound of n candidates, by radix select. @pre 1 <= rank <= n
  __device__ float kth_lower(int n, std::int64_t rank) const {
    const Candidate* const held = candidates();
    unsigned prefix = 0;
    unsigned mask = 0;
    if (threadIdx.x == 0) shared.rank = static_cast<unsigned>(rank);
    for (int shift = 24; shift >= 0; shift -= 8) {
      for (int digit = threadIdx.x; digit < kDigits; digit += kSettleThreads) shared.digits[digit] = 0;
      __syncthreads();
      for (int c = threadIdx.x; c < n; c += kSettleThreads) {
        const unsigned key = score_key(lower_score(held[c].score, error(held[c])));
        if ((key & mask) == prefix) atomicAdd(&shared.digits[(key >> shift) % kDigits], 1u);
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        int digit = kDigits - 1;
        for (; shared.digits[digit] < shared.rank; --digit) shared.rank -= shared.digits[digit];
        shared.digit = static_cast<unsigned>(digit);
      }
      __syncthreads();
      prefix |= shared.digit << shift;
      mask |= 0xffu << shift;
    }
    return score_of_key(prefix);
  }

  /// Drops candidates whose upper bound is below the cut. @return how many stay, in the order they had
  __device__ int drop_below_cut(int n) const {
    Candidate* const held = candidates();
    const double cut = scaled_cut(queries.cuts[query], bound());
    const int warp = threadIdx.x / kWarp;
    const unsigned lanes_below = (1u << (threadIdx.x % kWarp)) - 1;
    int kept = 0;
    for (int first = 0; first < n; first += kSettleThreads) {
      const int c = first + static_cast<int>(threadIdx.x);
      const Candidate candidate = c < n ? held[c] : Candidate{};
      const bool stays = c < n && !(upper_score(candidate.score, error(candidate)) < cut);
      const unsigned votes = __ballot_sync(kAllLanes, stays);
      if (threadIdx.x % kWarp == 0) shared.warp_counts[warp] = __popc(votes);
      __syncthreads();  // also: all have read theirs before any is overwritten
      int place = kept + __popc(votes & lanes_below);
      for (int w = 0; w < kSettleThreads / kWarp; ++w) {
        if (w < warp) place += shared.warp_counts[w];
        kept += shared.warp_counts[w];
      }
      if (stays) held[place] = candidate;
      __syncthreads();
    }
    return kept;
  }

  __device__ int prune(int n) const {
    if (n >= queries.k) {
      const float lower = kth_lower(n, queries.k);
      const double score = std::ldexp(static_cast<double>(lower), -bound().score_exponent);
      raise_cut(queries.score_cuts[query].from_score(score));
    }
    return drop_below_cut(n);
  }

  /// The distance that is written, by 8 threads; all warps of the block come here together.
  template <DType kDType>
  __device__ float exact_distance(std::int64_t row) const {
    const std::byte* const stored = stored_row<kDType>(rows, row);
    const float* const values = queries.values + query * queries.d;
    if (metric == Metric::l2)
      return static_cast<float>(lane_total(rows.d, [&](std::int64_t i, double sum) {
        const double difference =
            static_cast<double>(values[i]) - static_cast<double>(stored_value<kDType>(stored, i));
        return std::fma(difference, difference, sum);
      }));
    const double dot = lane_total(rows.d, [&](std::int64_t i, double sum) {
      return std::fma(static_cast<double>(values[i]), static_cast<double>(stored_value<kDType>(stored, i)),
                      sum);
    });
    if (metric == Metric::ip) return static_cast<float>(dot);
    const double squares = lane_total(rows.d, [&](std::int64_t i, double sum) {
      const double value = stored_value<kDType>(stored, i);
      return std::fma(value, value, sum);
    });
    return static_cast<float>(cosine_similarity(dot, queries.score_cuts[query].query_squares(), squares));
  }

  /// Bitonic sort, best first. @param entries  n of them, n a power of two
  __device__ void sort(Neighbor* entries, int n) const {
    for (int size = 2; size <= n; size *= 2)
      for (int stride = size / 2; stride > 0; stride /= 2) {
        for (int pair = threadIdx.x; pair < n / 2; pair += kSettleThreads) {
          const int low = pair / stride * stride * 2 + pair % stride;
          const int high = low + stride;
          const bool ascending = (low & size) == 0;
          const Neighbor a = entries[low];
          const Neighbor b = entries[high];
          if (closer(b.id, b.distance, a.id, a.distance) == ascending &&
              (a.id != b.id || a.distance != b.distance)) {
            entries[low] = b;
            entries[high] = a;
          }
        }
        __syncthreads();
      }
  }

  /// Merges the exact distances of n candidates into the query's answer.
  /// @param scratch  room for k + n, rounded up to a power of two
  template <DType kDType>
  __device__ void rerank(int n, Neighbor* scratch, DeviceCounters* counters) const {
    const int k = static_cast<int>(queries.k);
    int padded = 1;
    while (padded < k + n) padded *= 2;
    Neighbor* const entries = padded <= kSharedSort ? shared.sorted : scratch;
    float* const distances = queries.distances + query * queries.k;
    GlobalId* const neighbors = queries.neighbors + query * queries.k;
    const float worst = closer(0, 0.0f, 0, 1.0f) ? std::numeric_limits<float>::infinity()
                                                 : -std::numeric_limits<float>::infinity();
    for (int e = threadIdx.x; e < k; e += kSettleThreads) entries[e] = {distances[e], neighbors[e]};
    for (int e = k + n + static_cast<int>(threadIdx.x); e < padded; e += kSettleThreads)
      entries[e] = {worst, kNoNeighbor};
    constexpr int kGroups = kSettleThreads / LaneSum::kLanes;
    for (int first = 0; first < n; first += kGroups) {
      // Groups beyond the last candidate compute it again: all threads of a warp must take part in exchanges.
      const int c = first + static_cast<int>(threadIdx.x) / LaneSum::kLanes;
      const std::int64_t row = candidates()[c < n ? c : n - 1].row;
      const float distance = exact_distance<kDType>(row);
      if (c < n && threadIdx.x % LaneSum::kLanes == 0)
        entries[k + c] = {distance, rows.ids == nullptr ? rows.first_id + row : rows.ids[row]};
    }
    __syncthreads();
    sort(entries, padded);
    for (int e = threadIdx.x; e < k; e += kSettleThreads) {
      distances[e] = entries[e].distance;
      neighbors[e] = entries[e].id;
    }
    const Neighbor kth = entries[k - 1];
    __syncthreads();
    if (kth.id != kNoNeighbor) raise_cut(queries.score_cuts[query].from_distance(kth.distance));
    if (threadIdx.x > 0) return;
    atomicAdd(&counters->candidates, static_cast<unsigned long long>(n));
    atomicAdd(&counters->reranked, static_cast<unsigned long long>(n));
  }
};

/// Grid: scratch.blocks blocks, each settles every scratch.blocks-th query.
template <DType kDType>
__global__ void __launch_bounds__(kSettleThreads, kSettleBlocks)
    settle_kernel(Metric metric, bool smaller_is_better, Settle settle,
                  const __grid_constant__ StoredRows rows, const __grid_constant__ ScreenedRows screened,
                  const __grid_constant__ QueryChunk queries, int room, SettleScratch scratch,
                  double error_factor, DeviceCounters* counters) {
  __shared__ SettleShared shared;
  Neighbor* const entries = scratch.entries + blockIdx.x * scratch.sort_entries;
  for (std::int64_t query = blockIdx.x; query < queries.nq; query += gridDim.x) {
    const BlockQuery block{metric, Closer(smaller_is_better), rows, screened, queries, error_factor, query,
                           shared};
    int n = queries.counts[query];
    __syncthreads();  // all have read it before thread 0 sets another
    if (n > queries.capacity) {
      // Some are lost: the query is searched again, tile by tile, and takes no more until then.
      if (threadIdx.x == 0) {
        queries.overflowed[query] = 1;
        queries.counts[query] = 0;
        queries.cuts[query] = std::numeric_limits<double>::infinity();
      }
      continue;
    }
    if (settle == Settle::room && n <= room) continue;
    n = block.prune(n);
    const int k = static_cast<int>(queries.k);
    // Half of what lies beyond k must go, or prunings would come too often.
    const bool is_crowded = settle == Settle::room && n > k + (room - k) / 2;
    if (settle == Settle::cuts_only) {
      n = 0;
    } else if (settle == Settle::answers || is_crowded) {
      if (n > 0) block.template rerank<kDType>(n, entries, counters);
      n = 0;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      queries.counts[query] = n;
      if (is_crowded) queries.widened[query] = 1;
    }
  }
}

std::int64_t ceil_div(std::int64_t value, std::int64_t parts) {
  return (value + parts - 1) / parts;
}

}  // namespace

void find_max_abs(const Stream& stream, const StoredRows& rows, float* max_abs) {
  if (rows.rows * rows.d == 0) return;
  constexpr std::int64_t kMaxBlocks = 4096;
  const std::int64_t blocks = std::min(kMaxBlocks, ceil_div(rows.rows * rows.d, kPackThreads));
  with_dtype(rows.dtype, [&](auto dtype) {
    launch("max_abs", stream, {blocks, 1}, kPackThreads, 0, max_abs_kernel<decltype(dtype)::value>, rows,
           reinterpret_cast<unsigned*>(max_abs));
  });
}

void pack_rows(const Stream& stream, Metric metric, const StoredRows& rows, const ScreenedRows& screened) {
  if (rows.rows == 0) return;
  with_dtype(rows.dtype, [&](auto dtype) {
    launch("pack_rows", stream, {ceil_div(rows.rows, kBoundRows), 1}, kPackThreads, 0,
           pack_rows_kernel<decltype(dtype)::value>, metric, rows, screened);
  });
}

void begin_queries(const Stream& stream, Metric metric, const ScreenedRows& rows, const float* bound,
                   double max_row_norm, const QueryChunk& queries) {
  if (queries.nq == 0) return;
  launch("begin_queries", stream, {queries.nq, 1}, kWarp, 0, begin_queries_kernel, metric,
         smaller_is_better(metric), rows, bound, max_row_norm, queries);
}

void filter_tile(const Stream& stream, Metric metric, const ScreenedRows& rows, const ScoredTile& tile,
                 const QueryChunk& queries, double error_factor) {
  if (queries.nq == 0 || tile.rows == 0) return;
  launch("filter_tile", stream, {queries.nq, ceil_div(tile.rows, kFilterRows)}, kFilterThreads, 0,
         filter_kernel, metric, rows, tile, queries, error_factor);
}

void settle_queries(const Stream& stream, Metric metric, Settle settle, const StoredRows& rows,
                    const ScreenedRows& screened, const QueryChunk& queries, std::int64_t room,
                    const SettleScratch& scratch, double error_factor, DeviceCounters* counters) {
  if (queries.nq == 0) return;
  const int room_entries = narrow<int>(room);
  with_dtype(rows.dtype, [&](auto dtype) {
    launch("settle_queries", stream, {std::min(scratch.blocks, queries.nq), 1}, kSettleThreads, 0,
           settle_kernel<decltype(dtype)::value>, metric, smaller_is_better(metric), settle, rows, screened,
           queries, room_entries, scratch, error_factor, counters);
  });
}

}  // namespace mpishards::kernels::cuda

#include <bit>
#include <limits>

#include "kernels/cuda/flat_kernels.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/fused_shape.hpp"

// Product and filter in one kernel: scores never leave the registers.
namespace mpishards::kernels::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpsOfQueries = 2;
constexpr int kWarpsOfRows = 4;
constexpr int kThreads = kWarp * kWarpsOfQueries * kWarpsOfRows;
constexpr int kWarpQueries = kFusedQueries / kWarpsOfQueries;
constexpr int kWarpRows = kFusedRows / kWarpsOfRows;
// Tiles of one multiply_add inside a warp's.
constexpr int kQueryTiles = kWarpQueries / 16;
constexpr int kRowTiles = kWarpRows / 8;
constexpr int kDepth = 16;
static_assert(kBoundRows % kFusedRows == 0, "a tile has one bound");
static_assert(kThreads >= kFusedQueries && kThreads >= kFusedRows);

/// The parts of a block's shared memory; see fused_shared_bytes().
struct FusedShared {
  std::uint16_t* queries;  // kFusedQueries x pitch
  std::uint16_t* rows;     // kFusedStages x kFusedRows x pitch
  float* bias;             // kFusedStages x kFusedRows
  float* multipliers;      // kFusedQueries
  float* thresholds;       // kFusedQueries
  int pitch;

  __device__ FusedShared(std::byte* memory, int cols) : pitch(cols + kFusedPadding) {
    queries = reinterpret_cast<std::uint16_t*>(memory);
    rows = queries + kFusedQueries * pitch;
    bias = reinterpret_cast<float*>(rows + kFusedStages * kFusedRows * pitch);
    multipliers = bias + kFusedStages * kFusedRows;
    thresholds = multipliers + kFusedQueries;
  }
};

/// Begins to copy rows of a plane into shared memory; rows past the last are zeros.
__device__ void copy_plane(std::uint16_t* to, int pitch, const std::uint16_t* plane, std::int64_t first,
                           std::int64_t last, int rows, int cols) {
  const int pieces = cols / 8;  // of 16 bytes
  for (int i = threadIdx.x; i < rows * pieces; i += kThreads) {
    const int row = i / pieces;
    const int col = i % pieces * 8;
    const bool is_there = first + row < last;
    copy_async_16(to + row * pitch + col, plane + (is_there ? first + row : first) * cols + col, is_there);
  }
}

/// One warp's share of a tile of products.
struct WarpProducts {
  float sums[kQueryTiles][kRowTiles][4];

  __device__ void run(const std::uint16_t* queries, const std::uint16_t* rows, int pitch, int cols) {
    for (auto& tiles : sums)
      for (auto& tile : tiles)
        for (float& sum : tile) sum = 0;
    const int lane = threadIdx.x % kWarp;
    const std::uint16_t* const a_row = queries + lane % 16 * pitch + lane / 16 * 8;
    const std::uint16_t* const b_row = rows + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
    for (int depth = 0; depth < cols; depth += kDepth) {
      std::uint32_t a[kQueryTiles][4];
      std::uint32_t b[kRowTiles / 2][4];
#pragma unroll
      for (int i = 0; i < kQueryTiles; ++i) load_matrices(a[i], a_row + i * 16 * pitch + depth);
#pragma unroll
      for (int j = 0; j < kRowTiles / 2; ++j) load_matrices(b[j], b_row + j * 16 * pitch + depth);
#pragma unroll
      for (int i = 0; i < kQueryTiles; ++i)
#pragma unroll
        for (int j = 0; j < kRowTiles; ++j)
          multiply_add(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
};

/// Appends what a warp's products can't exclude: one test for all rows of a query that a thread has, and a
/// closer look only where it passes.
__device__ void append(const WarpProducts& products, const FusedShared& shared, const float* bias,
                       int warp_query, int warp_row, std::int64_t first_query, std::int64_t first_row,
                       std::int64_t last_row, const QueryChunk& queries) {
  const int lane = threadIdx.x % kWarp;
  const int column = warp_row + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < kQueryTiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = warp_query + i * 16 + half * 8 + lane / 4;
      const float multiplier = shared.multipliers[query];
      const float threshold = shared.thresholds[query];
      float best = -std::numeric_limits<float>::infinity();
#pragma unroll
      for (int j = 0; j < kRowTiles; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          best = fmaxf(best, fmaf(products.sums[i][j][half * 2 + c], multiplier, bias[column + j * 8 + c]));
      if (best < threshold) continue;
      Candidate* const candidates = queries.candidates + (first_query + query) * queries.capacity;
#pragma unroll
      for (int j = 0; j < kRowTiles; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int place_in_tile = column + j * 8 + c;
          const float score = fmaf(products.sums[i][j][half * 2 + c], multiplier, bias[place_in_tile]);
          const std::int64_t row = first_row + place_in_tile;
          if (score < threshold || row >= last_row) continue;
          const int place = atomicAdd(&queries.counts[first_query + query], 1);
          if (place < queries.capacity) candidates[place] = {score, static_cast<std::uint32_t>(row)};
        }
    }
}

/// Grid: x blocks of kFusedQueries queries, y shares of the rows. A block keeps its queries in shared memory
/// and walks over its share tile by tile, copying the next one while it multiplies.
__global__ void __launch_bounds__(kThreads)
    fused_screen_kernel(Metric metric, const __grid_constant__ ScreenedRows rows, std::int64_t begin,
                        std::int64_t end, const __grid_constant__ QueryChunk queries, double error_factor) {
  const int cols = static_cast<int>(rows.cols);
  const FusedShared shared(dynamic_shared_memory(), cols);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t first_query = blockIdx.x * std::int64_t{kFusedQueries};
  const std::int64_t n_tiles = (end - begin + kFusedRows - 1) / kFusedRows;
  const std::int64_t query = first_query + thread;
  const bool has_query = thread < kFusedQueries && query < queries.nq;

  const auto copy_tile = [&](std::int64_t tile, int stage) {
    if (tile < n_tiles) {
      const std::int64_t first = begin + tile * kFusedRows;
      copy_plane(shared.rows + stage * kFusedRows * shared.pitch, shared.pitch, rows.plane, first, end,
                 kFusedRows, cols);
      if (thread < kFusedRows)
        shared.bias[stage * kFusedRows + thread] =
            rows.bias == nullptr || first + thread >= end ? 0.0f : rows.bias[first + thread];
    }
    commit_copies();
  };

  copy_plane(shared.queries, shared.pitch, queries.plane, first_query, queries.nq, kFusedQueries, cols);
  copy_tile(blockIdx.y, 0);
  if (thread < kFusedQueries)
    shared.multipliers[thread] = has_query ? queries.bounds[query].multiplier : 0.0f;

  const int warp = thread / kWarp;
  const int warp_query = warp / kWarpsOfRows * kWarpQueries;
  const int warp_row = warp % kWarpsOfRows * kWarpRows;
  int stage = 0;
  for (std::int64_t tile = blockIdx.y; tile < n_tiles; tile += gridDim.y) {
    copy_tile(tile + gridDim.y, 1 - stage);
    const std::int64_t first_row = begin + tile * kFusedRows;
    if (thread < kFusedQueries) {
      float threshold = std::numeric_limits<float>::infinity();  // of queries past the last: nothing passes
      if (has_query) {
        const QueryBound& bound = queries.bounds[query];
        const double error =
            half_screen_error(metric, cols, bound, rows.bounds[first_row / kBoundRows], error_factor);
        threshold = screen_threshold(scaled_cut(queries.cuts[query], bound), error);
        if (error == std::numeric_limits<double>::infinity()) queries.widened[query] = 1;
      }
      shared.thresholds[thread] = threshold;
    }
    wait_for_copies<1>();
    __syncthreads();
    WarpProducts products;
    products.run(shared.queries + warp_query * shared.pitch,
                 shared.rows + (stage * kFusedRows + warp_row) * shared.pitch, shared.pitch, cols);
    append(products, shared, shared.bias + stage * kFusedRows, warp_query, warp_row, first_query, first_row,
           end, queries);
    __syncthreads();  // before this stage is copied over
    stage = 1 - stage;
  }
  wait_for_copies<0>();
}

}  // namespace

void screen_fused(const Stream& stream, Metric metric, const ScreenedRows& rows, std::int64_t begin,
                  std::int64_t end, const QueryChunk& queries, std::int64_t shares, double error_factor) {
  if (queries.nq == 0 || begin >= end) return;
  const std::int64_t blocks = (queries.nq + kFusedQueries - 1) / kFusedQueries;
  launch("fused_screen", stream, {blocks, shares}, kThreads, fused_shared_bytes(rows.cols),
         fused_screen_kernel, metric, rows, begin, end, queries, error_factor);
}

}  // namespace mpishards::kernels::cuda

#include "kernels/cuda_search_plan.hpp"

#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "kernels/fused_shape.hpp"
#include "kernels/half_bound.hpp"
#include "kernels/threshold_plan.hpp"

namespace mpishards::kernels::cuda {
namespace {

constexpr std::int64_t kMaxQueryChunk = 16384;
// Of fewer queries a matrix product is too narrow to be worth keeping the rows on the device for.
constexpr std::int64_t kWideChunk = 1024;
// Scores of one tile: enough for one product and one filter to outlast their launches.
constexpr std::int64_t kTileScores = std::int64_t{1} << 26;
constexpr std::int64_t kMinTileRows = 4096;
constexpr std::int64_t kMaxTileRows = 16384;
constexpr std::int64_t kSettleBlocksPerMultiprocessor = 8;
// Fewer queries leave most of a fused tile empty.
constexpr std::int64_t kFewestFusedQueries = kFusedQueries / 2;
// Blocks of the fused kernel for each multiprocessor: some waves of them even out what their tails waste.
constexpr std::int64_t kFusedBlocksPerMultiprocessor = 8;

constexpr std::int64_t kCandidateBytes = sizeof(Candidate);
constexpr std::int64_t kNeighborBytes = sizeof(float) + sizeof(std::int64_t);

std::int64_t round_up_to(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::int64_t planned_k(const SearchShape& shape) {
  return std::clamp<std::int64_t>(shape.k, 1, std::max<std::int64_t>(shape.nb, 1));
}

std::int64_t bytes_per_query(const CudaSearchPlan& plan, const SearchShape& shape) {
  return shape.d * static_cast<std::int64_t>(sizeof(float)) +
         plan.plane_cols * static_cast<std::int64_t>(sizeof(std::uint16_t)) +
         static_cast<std::int64_t>(sizeof(QueryBound) + sizeof(ScoreCut) + sizeof(double) + sizeof(int) + 2 +
                                   sizeof(float)) +
         plan.buffer_entries * kCandidateBytes + planned_k(shape) * kNeighborBytes +
         plan.tile_rows * static_cast<std::int64_t>(sizeof(float));
}

/// Everything that follows from the number of queries in a chunk.
void take_chunk(CudaSearchPlan& plan, const SearchShape& shape, const DeviceLimits& limits,
                const CudaOverrides& overrides, std::int64_t chunk) {
  const std::int64_t k = planned_k(shape);
  plan.query_chunk = chunk;
  plan.tile_rows = overrides.tile_rows > 0 ? overrides.tile_rows
                                           : std::clamp(kTileScores / std::max<std::int64_t>(chunk, 1),
                                                        kMinTileRows, kMaxTileRows);
  plan.tile_rows = round_up_to(std::min(plan.tile_rows, std::max<std::int64_t>(shape.nb, 1)), kBoundRows);
  plan.room = overrides.room > 0 ? std::max(overrides.room, k) : candidate_room(k);
  plan.buffer_entries = plan.room + plan.tile_rows;
  plan.sample_rows =
      std::min(plan.tile_rows, overrides.sample_rows >= 0 ? std::min(overrides.sample_rows, shape.nb)
                                                          : threshold_sample_rows(shape.nb, k));
  plan.settle_blocks = std::min<std::int64_t>(chunk, limits.multiprocessors * kSettleBlocksPerMultiprocessor);
  plan.sort_entries =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(k + plan.buffer_entries)));
  const std::int64_t blocks = (chunk + kFusedQueries - 1) / kFusedQueries;
  const bool fits = static_cast<std::int64_t>(fused_shared_bytes(plan.plane_cols)) <= limits.shared_bytes;
  plan.fused_shares =
      chunk < kFewestFusedQueries
          ? 0
          : std::max<std::int64_t>(1, limits.multiprocessors * kFusedBlocksPerMultiprocessor / blocks);
  if (overrides.fused_shares >= 0) plan.fused_shares = overrides.fused_shares;
  if (!fits) plan.fused_shares = 0;
  plan.scratch_bytes = chunk * bytes_per_query(plan, shape) +
                       plan.settle_blocks * plan.sort_entries * static_cast<std::int64_t>(sizeof(Neighbor));
}

std::int64_t bytes_of(const CudaSearchPlan& plan) {
  return plan.plane_bytes + (plan.rows_on_device ? plan.rows_bytes : 0) + plan.scratch_bytes;
}

}  // namespace

CudaSearchPlan plan_cuda_search(const SearchShape& shape, const DeviceLimits& limits, bool explicit_ids,
                                const CudaOverrides& overrides) {
  CudaSearchPlan plan;
  plan.plane_cols = round_up_to(shape.d, kPlaneAlignment);
  plan.plane_bytes = shape.nb * (plan.plane_cols * static_cast<std::int64_t>(sizeof(std::uint16_t)) +
                                 static_cast<std::int64_t>(sizeof(float))) +
                     (shape.nb + kBoundRows - 1) / kBoundRows * static_cast<std::int64_t>(sizeof(RowBound));
  if (explicit_ids) plan.plane_bytes += shape.nb * static_cast<std::int64_t>(sizeof(std::int64_t));
  plan.rows_bytes = shape.nb * shape.d * static_cast<std::int64_t>(size_bytes(shape.dtype));

  constexpr std::int64_t kMostSorted = std::int64_t{1} << 30;  // what a block's sort can count
  if (3 * planned_k(shape) > kMostSorted / 2)
    throw Error(ErrorKind::unavailable,
                "k = " + std::to_string(shape.k) + " is more than the CUDA engine sorts; use --engine cpu");
  const std::int64_t most = overrides.query_chunk > 0 ? overrides.query_chunk : kMaxQueryChunk;
  const std::int64_t widest = std::clamp<std::int64_t>(shape.nq, 1, most);
  take_chunk(plan, shape, limits, overrides, std::min(widest, kWideChunk));
  plan.rows_on_device = !overrides.rows_on_host && bytes_of(plan) <= limits.memory_bytes;
  for (std::int64_t chunk = widest;; chunk /= 2) {
    take_chunk(plan, shape, limits, overrides, std::max<std::int64_t>(chunk, 1));
    if (bytes_of(plan) <= limits.memory_bytes) return plan;
    if (chunk <= 1) break;
  }
  throw Error(ErrorKind::unavailable,
              "a shard of " + std::to_string(shape.nb) + " x " + std::to_string(shape.d) + " needs " +
                  std::to_string(bytes_of(plan)) + " bytes of the device's memory, " +
                  std::to_string(limits.memory_bytes) + " may be used; use more ranks or --memory");
}

std::string to_string(const CudaSearchPlan& plan) {
  return std::to_string(plan.query_chunk) + " queries x " + std::to_string(plan.tile_rows) +
         " rows a tile, " + std::to_string(plan.room) + " of " + std::to_string(plan.buffer_entries) +
         " candidates a query between tiles, thresholds from " + std::to_string(plan.sample_rows) +
         " sampled rows, " +
         (plan.fused_shares > 0
              ? "product and filter fused in " + std::to_string(plan.fused_shares) + " shares, "
              : std::string()) +
         "stored rows on the " + (plan.rows_on_device ? "device" : "host") + "; " +
         std::to_string(plan.plane_bytes) + " bytes of plane, " + std::to_string(plan.rows_bytes) +
         " bytes of rows, " + std::to_string(plan.scratch_bytes) + " bytes of scratch";
}

}  // namespace mpishards::kernels::cuda

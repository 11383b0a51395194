#pragma once

#include <cstdint>
#include <string>

#include "kernels/search_plan.hpp"

// Host code without CUDA: plans are made and tested where there is no toolkit.
namespace mpishards::kernels::cuda {

/// What one device has for one shard's search.
struct DeviceLimits {
  std::int64_t memory_bytes = 0;  // that may be taken
  int multiprocessors = 1;
  std::int64_t shared_bytes = 0;  // that a block may ask for; 0: no fused kernel
};

/// Tiles and memory of a search on a device: a printable value, pure arithmetic.
struct CudaSearchPlan {
  std::int64_t plane_cols = 0;      // d, padded for aligned loads
  std::int64_t query_chunk = 0;     // queries searched together
  std::int64_t tile_rows = 0;       // base rows of one matrix product: whole bounds
  std::int64_t room = 0;            // candidates a query may hold when a tile begins
  std::int64_t buffer_entries = 0;  // candidates a query can hold: all of a tile fit beside `room`
  std::int64_t sample_rows = 0;     // rows spread over the shard that seed the thresholds; 0: none
  std::int64_t settle_blocks = 0;   // thread blocks that prune and re-rank, each with scratch of its own
  std::int64_t sort_entries = 0;    // of that scratch: a power of two
  std::int64_t fused_shares = 0;    // of the rows, taken side by side by the fused kernel; 0: not used
  bool rows_on_device = true;       // else they stay in host memory, from where the device reads candidates
  std::int64_t plane_bytes = 0;     // base plane, bias and bounds
  std::int64_t rows_bytes = 0;      // base rows as stored, and their ids
  std::int64_t scratch_bytes = 0;   // everything that grows with the queries
};

/// Numbers that tests set to reach the second tile with few rows.
struct CudaOverrides {
  std::int64_t query_chunk = 0;  // 0: as planned
  std::int64_t tile_rows = 0;    // rounded up to whole bounds
  std::int64_t room = 0;
  std::int64_t sample_rows = -1;
  bool rows_on_host = false;
  std::int64_t memory_bytes = 0;   // 0: what the device has
  std::int64_t fused_shares = -1;  // -1: as planned
  double error_factor = 1;
};

/// @param explicit_ids  the shard has ids of its own
/// @pre nb, nq >= 0; d, k >= 1 @throws Error{unavailable} with the numbers where the plane does not fit
CudaSearchPlan plan_cuda_search(const SearchShape& shape, const DeviceLimits& limits, bool explicit_ids,
                                const CudaOverrides& overrides = {});

std::string to_string(const CudaSearchPlan& plan);

}  // namespace mpishards::kernels::cuda

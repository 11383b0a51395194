#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/types.hpp"

namespace mpishards::kernels {

/// Size of one search inside a shard.
struct SearchShape {
  std::int64_t nb = 0;
  std::int64_t nq = 0;
  std::int64_t d = 0;
  std::int64_t k = 0;
  DType dtype = DType::f32;
};

/// Packing a row costs about as much as screening it as it is stored for so many queries.
inline constexpr std::int64_t kQueriesWorthPacking = 16;

/// Fewer queries of one search read packed rows at the rate of memory.
inline constexpr std::int64_t kFewPlaneQueries = 64;

/// Dividing rows into cells costs about as much as it saves so many queries for each cell.
inline constexpr std::int64_t kQueriesWorthCell = 8;

/// What the CPU engine may use.
struct CpuLimits {
  int threads = 1;
  std::string_view isa = "auto";  // CPU kernel family, also one that this machine lacks
  bool may_pack = true;           // false: rows are screened as they are stored
  bool is_packed = false;         // rows are packed already, however few the queries
};

/// Size of one search inside a shard whose rows lie in lists.
struct ListSearchShape {
  SearchShape rows;          // nb of all lists together
  std::int64_t n_lists = 0;  // of this shard
  std::int64_t nprobe = 0;   // lists that a query looks into, in all shards
};

/// Tiles of a CPU search: a printable value, pure arithmetic.
struct CpuSearchPlan {
  std::int64_t query_tile = 0;      // queries of one matrix product
  std::int64_t chunk_queries = 0;   // queries whose candidates a thread holds at once
  std::int64_t base_tile = 0;       // base rows of one matrix product
  std::int64_t buffer_entries = 0;  // candidates kept per query before they are pruned
  std::int64_t sample_rows = 0;     // rows spread over the shard that seed the thresholds; 0: none
  bool split_base = false;          // few queries: threads share the base instead of the queries
  bool has_plane = false;           // rows are screened in a narrow type
  std::int64_t cells = 0;           // into which the packed rows are divided, to pass over some of them
  bool by_list = false;             // products are of one list and the queries that look into it
  std::int64_t index_bytes = 0;     // norms and packed rows beside the base rows
  std::int64_t scratch_bytes = 0;   // all threads' tiles and candidate buffers
};

/// @pre nb, nq >= 0; d, k >= 1 @par Cost constant
CpuSearchPlan plan_cpu_search(const SearchShape& shape, const CpuLimits& limits);

/// Changes the tiles of a plan for rows that are divided into so many cells, or into none. It takes no more
/// memory.
void plan_for_cells(CpuSearchPlan& plan, std::int64_t cells);

/// Fills in the bytes of a plan whose tiles are chosen; rows may be divided into cells later.
void complete_plan(CpuSearchPlan& plan, const SearchShape& shape, const CpuLimits& limits);

/// Tiles and bytes of a search for all rows within a limit; shape.k does not matter.
CpuSearchPlan plan_cpu_range_search(SearchShape shape, const CpuLimits& limits);

/// Tiles and bytes of a search inside probed lists: chunks of queries as large as memory allows, for a list's
/// product is as wide as the part of the chunk that looks into it.
CpuSearchPlan plan_cpu_list_search(const ListSearchShape& shape, const CpuLimits& limits);

std::string to_string(const CpuSearchPlan& plan);

}  // namespace mpishards::kernels

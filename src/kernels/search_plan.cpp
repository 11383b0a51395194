#include "kernels/search_plan.hpp"

#include <algorithm>
#include <string>

#include "kernels/cpu/chunk_search.hpp"
#include "kernels/cpu/list_search.hpp"
#include "kernels/cpu/range_search.hpp"
#include "kernels/cpu/row_norms.hpp"
#include "kernels/cpu/row_plane.hpp"
#include "kernels/threshold_plan.hpp"

namespace mpishards::kernels {
namespace {

// Of packed queries, which pass over every block of base rows: at d = 128 half of a 512 KiB L2.
constexpr std::int64_t kMaxQueryTile = 512;
constexpr std::int64_t kMaxBaseTile = 1024;
// The same of a plane, whose tiles come from a 2 MiB L2.
constexpr std::int64_t kPlaneQueryBytes = std::int64_t{512} << 10;
constexpr std::int64_t kMaxPlaneQueryTile = 1024;
// All candidate buffers of one thread.
constexpr std::int64_t kBufferBytes = std::int64_t{32} << 20;
constexpr std::int64_t kListBufferBytes = std::int64_t{64} << 20;
// Below this a matrix product is narrow enough that sharing the base keeps the cores busier.
constexpr std::int64_t kFewQueries = 16;
// Of rows in cells: queries of one chunk should need the same cells. The first ones are searched while
// thresholds are low.
constexpr std::int64_t kMaxCellQueryTile = 256;
constexpr std::int64_t kCellBufferEntries = 1024;

std::int64_t clamp(std::int64_t value, std::int64_t low, std::int64_t high) {
  return std::max(low, std::min(value, high));
}

/// A plane's bounds are wide: more candidates are near its thresholds.
std::int64_t plane_candidate_room(std::int64_t k) {
  constexpr std::int64_t kManyNeighbors = 256;
  return k <= kManyNeighbors ? std::max<std::int64_t>(512, 12 * k) : candidate_room(k);
}

/// Of few rows no query has so many candidates that half of the room beyond k is theirs.
std::int64_t enough_room(std::int64_t room, std::int64_t nb) {
  return std::min(room, 2 * std::max<std::int64_t>(nb, 1));
}

/// Rows whose groups seed the thresholds: a 64th of the work, and two groups for each neighbor.
std::int64_t plane_sample_rows(std::int64_t nb, std::int64_t k) {
  constexpr std::int64_t kMostRows = 16384;
  const std::int64_t rows =
      std::max(2 * cpu::kTileRows * k, std::min(nb / 64 / cpu::kTileRows * cpu::kTileRows, kMostRows));
  return rows * 8 <= nb ? rows : threshold_sample_rows(nb, k);
}

std::int64_t plane_query_tile(std::int64_t d) {
  const std::int64_t panel_bytes = cpu::plane_bytes(cpu::PlaneType::bf16, cpu::kPanelRows, d);
  return clamp(kPlaneQueryBytes / panel_bytes * cpu::kPanelRows, 4 * cpu::kPanelRows, kMaxPlaneQueryTile);
}

std::int64_t cell_query_tile(std::int64_t query_tile) {
  const std::int64_t panels = cpu::panels_of(query_tile / 2);
  return clamp(panels * cpu::kPanelRows, 1, std::min(query_tile, kMaxCellQueryTile));
}

std::int64_t ceil_div(std::int64_t value, std::int64_t parts) {
  return (value + parts - 1) / parts;
}

}  // namespace

CpuSearchPlan plan_cpu_search(const SearchShape& shape, const CpuLimits& limits) {
  CpuSearchPlan plan;
  const std::int64_t k = clamp(shape.k, 1, std::max<std::int64_t>(shape.nb, 1));
  plan.has_plane = limits.may_pack && cpu::find_planned_isa(limits.isa).plane != nullptr &&
                   (limits.is_packed || shape.nq >= kQueriesWorthPacking);
  plan.buffer_entries = enough_room(plan.has_plane ? plane_candidate_room(k) : candidate_room(k), shape.nb);
  const auto bytes_per_query = plan.buffer_entries * static_cast<std::int64_t>(sizeof(cpu::Candidate));
  const std::int64_t most = plan.has_plane ? plane_query_tile(shape.d) : kMaxQueryTile;
  const std::int64_t affordable = clamp(kBufferBytes / bytes_per_query, 1, most);
  // Chunks of equal size, as many for each thread.
  const std::int64_t rounds = std::max<std::int64_t>(1, ceil_div(shape.nq, affordable * limits.threads));
  const std::int64_t share = ceil_div(shape.nq, rounds * limits.threads);
  const std::int64_t few = plan.has_plane ? kFewPlaneQueries : kFewQueries;
  plan.split_base = limits.threads > 1 && share < few && shape.nq <= affordable &&
                    shape.nb >= limits.threads * kMaxBaseTile;
  plan.query_tile = clamp(plan.split_base ? shape.nq : share, 1, affordable);
  plan.chunk_queries = plan.query_tile;
  plan.base_tile = clamp(shape.nb, 1, kMaxBaseTile);
  plan.sample_rows = plan.has_plane ? plane_sample_rows(shape.nb, k) : threshold_sample_rows(shape.nb, k);
  complete_plan(plan, shape, limits);
  return plan;
}

void plan_for_cells(CpuSearchPlan& plan, std::int64_t cells) {
  plan.cells = cells;
  if (cells == 0 || plan.split_base) return;
  const std::int64_t query_tile = plan.query_tile;
  plan.query_tile = cell_query_tile(query_tile);
  plan.chunk_queries = plan.query_tile;
  if (plan.query_tile <= query_tile / 2)
    plan.buffer_entries =
        std::max(plan.buffer_entries, std::min(2 * plan.buffer_entries, kCellBufferEntries));
}

void complete_plan(CpuSearchPlan& plan, const SearchShape& shape, const CpuLimits& limits) {
  const std::int64_t row_bytes = shape.d * static_cast<std::int64_t>(size_bytes(shape.dtype));
  plan.index_bytes = cpu::RowNorms::bytes_for(shape.nb);
  if (plan.has_plane)
    plan.index_bytes +=
        cpu::RowPlane::bytes_for(shape.nb, shape.d) + cpu::RowCells::bytes_for(shape.nb, shape.d, limits);
  plan.scratch_bytes =
      shape.nq +
      limits.threads * cpu::ChunkSearch::bytes_for(plan, shape, cpu::find_planned_isa(limits.isa)) +
      plan.sample_rows * row_bytes + cpu::RowNorms::bytes_for(plan.sample_rows);
  if (plan.has_plane) plan.scratch_bytes += cpu::RowPlane::bytes_for(plan.sample_rows, shape.d);
  // The rows may be divided once they are searched often: then queries and their limits are sorted.
  const std::int64_t most_cells = plan.has_plane ? cpu::RowCells::cells_for(shape.nb) : 0;
  if (plan.cells == 0)
    plan.scratch_bytes +=
        limits.threads *
        cpu::CellReach::bytes_for(plan.split_base ? plan.query_tile : cell_query_tile(plan.query_tile),
                                  most_cells, shape.d);
  if (most_cells > 0)
    plan.scratch_bytes += shape.nq * (shape.d * static_cast<std::int64_t>(sizeof(float)) +
                                      static_cast<std::int64_t>(3 * sizeof(std::uint32_t)));
  // Threads that share the base keep an answer each.
  constexpr std::int64_t kNeighborBytes = sizeof(std::int64_t) + sizeof(float);
  if (plan.split_base) plan.scratch_bytes += limits.threads * shape.nq * shape.k * kNeighborBytes;
}

CpuSearchPlan plan_cpu_range_search(SearchShape shape, const CpuLimits& limits) {
  shape.k = 1;
  CpuLimits unpacked = limits;
  unpacked.may_pack = false;
  CpuSearchPlan plan = plan_cpu_search(shape, unpacked);
  // The limit is the threshold: nothing is sampled, nothing is pruned.
  plan.buffer_entries = 0;
  plan.sample_rows = 0;
  plan.scratch_bytes =
      shape.nq + limits.threads * cpu::RangeSearch::bytes_for(plan, shape, cpu::find_planned_isa(limits.isa));
  return plan;
}

CpuSearchPlan plan_cpu_list_search(const ListSearchShape& shape, const CpuLimits& limits) {
  CpuSearchPlan plan;
  plan.by_list = true;
  const SearchShape& rows = shape.rows;
  plan.buffer_entries =
      enough_room(candidate_room(clamp(rows.k, 1, std::max<std::int64_t>(rows.nb, 1))), rows.nb);
  const auto bytes_per_query = plan.buffer_entries * static_cast<std::int64_t>(sizeof(cpu::Candidate));
  const std::int64_t affordable = std::max<std::int64_t>(kListBufferBytes / bytes_per_query, 1);
  const std::int64_t rounds = std::max<std::int64_t>(1, ceil_div(rows.nq, affordable * limits.threads));
  const std::int64_t share = std::max<std::int64_t>(1, ceil_div(rows.nq, rounds * limits.threads));
  plan.split_base = limits.threads > 1 && rows.nq >= 1 && share < kFewQueries && rows.nq <= affordable;
  // Chunks are cut to screen as many rows: of short lists go more queries into one.
  plan.chunk_queries = plan.split_base ? rows.nq : std::min(share + share / 4, affordable);
  plan.query_tile = std::min(plan.chunk_queries, kMaxQueryTile);
  plan.base_tile = clamp(rows.nb, 1, kMaxBaseTile);
  constexpr auto kPerQuery = static_cast<std::int64_t>(sizeof(cpu::ProbingQuery) + sizeof(char));
  const std::int64_t chunks = ceil_div(rows.nq, plan.chunk_queries) + limits.threads;
  plan.index_bytes = cpu::RowNorms::bytes_for(rows.nb);
  plan.scratch_bytes =
      rows.nq * kPerQuery + 2 * chunks * static_cast<std::int64_t>(sizeof(std::size_t)) +
      cpu::ProbeWalk::bytes_for(shape.n_lists) +
      limits.threads * cpu::ListSearch::bytes_for(plan, shape, cpu::find_planned_isa(limits.isa));
  return plan;
}

std::string to_string(const CpuSearchPlan& plan) {
  std::string text = std::to_string(plan.query_tile) + " queries x " + std::to_string(plan.base_tile) +
                     " rows a tile, " + std::to_string(plan.buffer_entries) +
                     " candidates a query, thresholds from " + std::to_string(plan.sample_rows) +
                     " sampled rows, threads share the ";
  text += plan.split_base ? "base" : "queries";
  if (plan.has_plane) text += ", rows are packed";
  return text + "; " + std::to_string(plan.index_bytes) + " bytes of index, " +
         std::to_string(plan.scratch_bytes) + " bytes of scratch";
}

}  // namespace mpishards::kernels

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/range_hits.hpp"
#include "kernels/cpu/certificate.hpp"
#include "kernels/cpu/chunk_search.hpp"
#include "kernels/cpu/exact_distances.hpp"
#include "kernels/cpu/screen.hpp"
#include "kernels/cpu/tile_screen.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"

namespace mpishards::kernels::cpu {

/// A row within the limit of a query.
struct RangeHit {
  std::int64_t query;  // of the call
  GlobalId id;
  float distance;
};

/// One thread's screen of one chunk of queries against a limit that stays: what float32 can't exclude is
/// computed in double at once, tile by tile, while its rows are in the cache.
class RangeSearch final : private CandidateSink {
 public:
  void reserve(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa);
  /// What reserve() takes, at most, and one tile's candidates.
  static std::int64_t bytes_for(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa);
  std::size_t bytes() const;

  /// Appends the hits of queries [first, first + queries.rows) of the call among rows [begin, end) of the
  /// shard. Gives up once all chunks of the call have more than request.max_hits: `n_hits` is theirs
  /// together.
  void search(const SearchContext& context, const RangeRequest& request, MatrixView<const float> queries,
              std::int64_t first, std::int64_t begin, std::int64_t end, std::atomic<std::int64_t>& n_hits,
              std::vector<RangeHit>& hits);

  /// True where float32 could not exclude a row of the last chunk's query at all.
  bool is_widened(std::int64_t query) const { return widened_[static_cast<std::size_t>(query)] != 0; }

  const SearchCounters& counters() const { return counters_; }
  void reset_counters() { counters_ = {}; }

 private:
  struct Pair {
    std::uint32_t query;
    std::uint32_t row;
  };

  void add(std::int64_t query, std::int64_t row, float score) override;
  void screen_tile(const SearchContext& context, std::int64_t begin, std::int64_t end);
  bool is_asked_for(std::int64_t query, GlobalId id) const;
  void keep_hits(const SearchContext& context, std::vector<RangeHit>& hits);

  std::int64_t base_tile_ = 0;
  RangeRequest request_;
  MatrixView<const float> queries_;
  std::int64_t first_ = 0;
  std::int64_t tile_begin_ = 0;

  TileScreen screen_;
  ExactDistances exact_distances_;
  std::vector<Certificate> certificates_;
  std::vector<double> cuts_;
  std::vector<float> thresholds_;
  std::vector<char> widened_;
  std::vector<Pair> survivors_;  // of the tile at hand
  SearchCounters counters_;
};

/// First row of a shard that can be a hit of query `query` or a later one of the call.
std::int64_t first_row_asked_for(const RangeRequest& request, const RowIds& ids, std::int64_t rows,
                                 std::int64_t query);

/// Hits in any order to the answer of `nq` queries, each row sorted by Closer.
/// @par Cost  h log h a query, spread over the threads
RangeHits sorted_hits(std::span<const std::vector<RangeHit>> parts, std::int64_t nq, Metric metric,
                      int threads);

}  // namespace mpishards::kernels::cpu

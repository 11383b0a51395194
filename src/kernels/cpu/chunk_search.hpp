#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/topk.hpp"
#include "kernels/cpu/certificate.hpp"
#include "kernels/cpu/exact_distances.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/plane_queries.hpp"
#include "kernels/cpu/row_plane.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/cpu/screen.hpp"
#include "kernels/cpu/tile_screen.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"

namespace mpishards::kernels::cpu {

/// A row that the screen could not exclude, with bounds of its exact score.
struct Candidate {
  float lower;
  float upper;
  std::uint32_t row;
};

/// What all chunks of one search have in common.
struct SearchContext {
  Metric metric = Metric::l2;
  const Isa* isa = nullptr;
  RowSet base;
  RowIds ids;
  double max_row_norm = 0;
  double error_factor = 1;
};

/// Which rows of an answer the queries of a chunk have: those from `first` on, of the sorted queries if they
/// are.
struct AnswerRows {
  std::int64_t first = 0;
  std::span<const std::uint32_t> order;  // of all queries; empty: as they came

  std::int64_t operator[](std::int64_t query) const {
    return order.empty() ? first + query : std::int64_t{order[static_cast<std::size_t>(first + query)]};
  }
};

/// One thread's search of one chunk of queries: thresholds, candidates, and the exact re-rank.
///
/// A query's answer so far is its row of `out` (exact) and its buffer (bounds). The buffer is pruned when it
/// is full; where bounds don't prune, what is there is re-ranked into `out`, so memory is bounded whatever
/// the data.
class ChunkSearch final : private CandidateSink {
 public:
  /// Room for plan.chunk_queries queries, plan.query_tile of them selected; k is limited to the shard's rows
  /// by the caller.
  void reserve(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa);
  /// What reserve() takes, at most.
  static std::int64_t bytes_for(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa);
  std::size_t bytes() const;

  /// @param bound  empty or one distance a query
  /// @param out    answers; all padding
  void begin(const SearchContext& context, MatrixView<const float> queries, std::span<const float> bound,
             TopK& out, const AnswerRows& rows);

  /// Takes all queries for the next screens. @pre no more than plan.query_tile
  void select_all();
  /// Takes some queries of the chunk for the next screens. @pre no more than plan.query_tile; plan.by_list
  void select(std::span<const std::int32_t> queries);

  /// Screens rows [begin, end) of a set against the selected queries, tile by tile.
  void screen_rows(const RowSet& set, std::int64_t begin, std::int64_t end);

  /// Screens one of several equal parts of a set. Where all queries are selected and the set has a plane, it
  /// is what is screened, as long as that proves enough; parts are then parts of its places.
  void screen_part(const RowSet& set, std::int64_t part, std::int64_t parts);

  /// Raises thresholds by what a sample proves; takes nothing from it. @pre all are selected
  void seed(const RowSet& sample);

  /// Brings all thresholds up to date with the candidates.
  void prune_all();

  /// Completes the answers from the buffers.
  void finish();

  /// True where the first screen did not prove the answer at the first try.
  bool is_widened(std::int64_t query) const {
    return left_plane_ || widened_[static_cast<std::size_t>(query)] != 0;
  }

  const SearchCounters& counters() const { return counters_; }
  void reset_counters() { counters_ = {}; }

 private:
  struct Exact {
    GlobalId id;
    float distance;
  };

  /// Some places of a block of a plane.
  struct Places {
    const PlaneBlock* block = nullptr;
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  /// Those of a block that lie in [begin, end); there may be none.
  static Places places_of(const PlaneBlock& block, std::int64_t begin, std::int64_t end);
  void screen_places(const RowSet& set, const Places& places);
  /// Places [begin, end) of a plane, cell by cell, but for cells that are too far from the queries.
  void screen_cells(const RowSet& set, std::int64_t begin, std::int64_t end);
  /// Panels of queries that may find something in a cell.
  std::span<const PlaneQueries::Range> queries_in_reach(std::int64_t cell);
  void screen_plane(const RowSet& set, const Places& places, std::span<const PlaneQueries::Range> queries);
  void screen_by_place(const RowSet& set, const Places& places);
  void screen_tile(const RowSet& set, std::int64_t begin, std::int64_t end, const RowMaxima& maxima);
  RowMaxima maxima_of(const RowSet& set, const PlaneBlock& block) const;
  void leave_plane();
  /// Forgets candidates and answers but keeps what they proved: k rows at least that good exist.
  void keep_thresholds_only();
  bool drowns() const;
  void set_tile(const RowSet& set, std::int64_t begin) {
    tile_set_ = &set;
    tile_begin_ = begin;
  }
  std::int64_t row_of_tile(std::int64_t row) const {
    const std::int64_t place = tile_begin_ + row;
    return (by_place_ ? tile_set_->plane->row_at(place) : place) * tile_set_->stride;
  }
  double screened_cut(std::int64_t query) const;

  /// @param slot  place among the queries being screened
  void add(std::int64_t slot, std::int64_t row, float score) override;
  void make_room(std::int64_t query);
  void set_limit(std::int64_t query);
  /// About the k-th largest lower bound; so many candidates reach it. @pre there are k
  float kth_lower(std::int64_t query);
  void prune(std::int64_t query);
  void rerank(std::int64_t query);
  void merge_exact(std::int64_t query, const Candidate* first, const Candidate* last);
  NeighborRow answer(std::int64_t query) { return out_->row(answer_rows_[query]); }
  void raise_cut(std::int64_t query, double cut);
  void update_threshold(std::int64_t slot);
  Candidate* candidates(std::int64_t query) { return candidates_.data() + query * capacity_; }

  std::int64_t capacity_ = 0;  // of one query's buffer
  std::int64_t k_ = 0;         // no more than the shard's rows
  std::int64_t base_tile_ = 0;
  const SearchContext* context_ = nullptr;
  MatrixView<const float> queries_;
  TopK* out_ = nullptr;
  AnswerRows answer_rows_;
  const RowSet* tile_set_ = nullptr;  // of the tile being screened
  std::int64_t tile_begin_ = 0;       // in its set

  BulkVector<Candidate> candidates_;
  std::vector<float> lowers_;
  TileScreen screen_;
  PlaneQueries plane_queries_;
  CellReach reach_;
  std::vector<PlaneQueries::Range> in_reach_;
  std::int64_t first_slot_ = 0;  // of those being screened
  bool by_place_ = false;        // rows come in the order of the plane
  bool on_plane_ = false;
  bool left_plane_ = false;    // this chunk has a plane, which proved too little
  std::int64_t screened_ = 0;  // pairs on the plane, of this chunk
  std::int64_t forced_ = 0;    // candidates that were re-ranked to make room, of this chunk
  ExactDistances exact_distances_;
  std::vector<Certificate> certificates_;
  std::vector<double> cuts_;     // rows with an exact score below can't be in the answer
  std::vector<double> offsets_;  // exact scores are this much larger than those that are screened and bounded
  std::vector<std::int64_t> counts_;
  std::vector<std::int64_t> limits_;  // counts at which to prune
  std::vector<char> widened_;
  std::int64_t n_selected_ = 0;
  std::vector<std::int32_t> selected_;  // slot -> query
  BulkVector<float> selected_rows_;     // gathered, where not all are selected
  std::vector<double> errors_;          // one a slot, of the tile being screened
  std::vector<float> thresholds_;       // one a slot, of the tile being screened
  std::vector<Exact> exact_;
  std::vector<GlobalId> merged_neighbors_;
  std::vector<float> merged_distances_;
  std::vector<GlobalId> fresh_neighbors_;
  std::vector<float> fresh_distances_;
  SearchCounters counters_;
  SearchCounters counters_before_;  // this chunk
};

}  // namespace mpishards::kernels::cpu

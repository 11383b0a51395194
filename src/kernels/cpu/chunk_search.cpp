#include "kernels/cpu/chunk_search.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr float kFloatInfinity = std::numeric_limits<float>::infinity();

// The k-th best of so many times k groups of rows is nearly the k-th best of the rows.
constexpr std::int64_t kLeastGroups = 2;
constexpr std::int64_t kLeastFresh = 16;
// One exact distance costs as much as so many float32 scores: past that a plane saves nothing.
constexpr std::int64_t kScoresPerDistance = 64;

std::int64_t neighbors_kept(const SearchShape& shape) {
  return std::min(shape.k, std::max<std::int64_t>(shape.nb, 1));
}

/// A step that comes to each of n places once, the next one far from the last.
std::int64_t stride_through(std::int64_t n) {
  std::int64_t step = std::max<std::int64_t>(1, n * 5 / 13);
  while (std::gcd(step, n) != 1) ++step;
  return step;
}

}  // namespace

void ChunkSearch::reserve(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa) {
  const std::int64_t queries = plan.chunk_queries;
  capacity_ = plan.buffer_entries;
  base_tile_ = plan.base_tile;
  k_ = neighbors_kept(shape);
  set_size(candidates_, queries * capacity_);
  set_size(lowers_, capacity_);
  screen_.reserve(plan.query_tile, base_tile_, shape.d, shape.dtype, plan.has_plane, isa);
  if (plan.has_plane) plane_queries_.reserve(plan.query_tile, shape.d, plan.sample_rows, isa);
  reach_.reserve(plan.query_tile, plan.cells, shape.d);
  in_reach_.reserve(static_cast<std::size_t>(panels_of(plan.query_tile)));
  exact_distances_.reserve(queries, shape.d, shape.dtype);
  set_size(certificates_, queries);
  set_size(cuts_, queries);
  set_size(offsets_, queries);
  set_size(counts_, queries);
  set_size(limits_, queries);
  set_size(widened_, queries);
  set_size(selected_, plan.query_tile);
  set_size(selected_rows_, plan.by_list ? plan.query_tile * shape.d : 0);
  set_size(errors_, plan.query_tile);
  set_size(thresholds_, padded_queries(plan.query_tile));
  set_size(exact_, capacity_);
  set_size(merged_neighbors_, shape.k);
  set_size(merged_distances_, shape.k);
  set_size(fresh_neighbors_, capacity_);
  set_size(fresh_distances_, capacity_);
}

std::int64_t ChunkSearch::bytes_for(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa) {
  constexpr std::int64_t kPerQuery =
      sizeof(Certificate) + 2 * sizeof(double) + 2 * sizeof(std::int64_t) + sizeof(char);
  constexpr std::int64_t kPerSelected = sizeof(std::int32_t) + sizeof(double);
  constexpr std::int64_t kNeighbor = sizeof(GlobalId) + sizeof(float);
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  const std::int64_t per_query =
      kPerQuery + plan.buffer_entries * static_cast<std::int64_t>(sizeof(Candidate));
  const std::int64_t per_selected = kPerSelected + (plan.by_list ? shape.d * kFloat : 0);
  const std::int64_t plane = plan.has_plane
                                 ? PlaneQueries::bytes_for(plan.query_tile, shape.d, plan.sample_rows, isa)
                                 : std::int64_t{0};
  return CellReach::bytes_for(plan.query_tile, plan.cells, shape.d) +
         panels_of(plan.query_tile) * static_cast<std::int64_t>(sizeof(PlaneQueries::Range)) +
         plan.chunk_queries * per_query + plan.query_tile * per_selected +
         padded_queries(plan.query_tile) * kFloat + plane +
         ExactDistances::bytes_for(plan.chunk_queries, shape.d, shape.dtype) +
         TileScreen::bytes_for(plan.query_tile, plan.base_tile, shape.d, shape.dtype, plan.has_plane, isa) +
         plan.buffer_entries * (static_cast<std::int64_t>(sizeof(Exact)) + kNeighbor + kFloat) +
         shape.k * kNeighbor;
}

std::size_t ChunkSearch::bytes() const {
  return reach_.bytes() + bytes_of(in_reach_) + bytes_of(candidates_) + bytes_of(lowers_) + screen_.bytes() +
         exact_distances_.bytes() + bytes_of(certificates_) + plane_queries_.bytes() + bytes_of(cuts_) +
         bytes_of(offsets_) + bytes_of(counts_) + bytes_of(limits_) + bytes_of(widened_) +
         bytes_of(selected_) + bytes_of(selected_rows_) + bytes_of(errors_) + bytes_of(thresholds_) +
         bytes_of(exact_) + bytes_of(merged_neighbors_) + bytes_of(merged_distances_) +
         bytes_of(fresh_neighbors_) + bytes_of(fresh_distances_);
}

void ChunkSearch::begin(const SearchContext& context, MatrixView<const float> queries,
                        std::span<const float> bound, TopK& out, const AnswerRows& rows) {
  context_ = &context;
  queries_ = queries;
  out_ = &out;
  answer_rows_ = rows;
  counters_before_ = counters_;
  by_place_ = false;
  on_plane_ = false;
  left_plane_ = false;
  first_slot_ = 0;
  screened_ = 0;
  forced_ = 0;
  exact_distances_.begin(context.metric, *context.isa, queries, context.base.rows.dtype);
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    const auto i = static_cast<std::size_t>(q);
    certificates_[i] = Certificate(context.metric, queries.cols, exact_distances_.query_squares(q),
                                   context.max_row_norm, context.error_factor);
    cuts_[i] = bound.empty() ? -kInfinity : certificates_[i].cut().from_distance(bound[i]);
    offsets_[i] = 0;
    counts_[i] = 0;
    set_limit(q);
    widened_[i] = 0;
  }
}

void ChunkSearch::select_all() {
  n_selected_ = queries_.rows;
  std::iota(selected_.begin(), selected_.begin() + n_selected_, std::int32_t{0});
  std::fill(thresholds_.begin() + n_selected_, thresholds_.end(), kFloatInfinity);
  const RowPlane* const plane = context_->base.plane;
  if (plane != nullptr) {
    on_plane_ =
        plane_queries_.begin(*plane, context_->metric, *context_->isa, queries_, context_->error_factor);
    left_plane_ = !on_plane_;
    by_place_ = on_plane_;
  }
  if (!on_plane_) return screen_.begin(*context_->isa, queries_);
  for (std::int64_t q = 0; q < queries_.rows; ++q)
    offsets_[static_cast<std::size_t>(q)] = plane_queries_.offset(q);
}

void ChunkSearch::select(std::span<const std::int32_t> queries) {
  n_selected_ = std::ssize(queries);
  std::ranges::copy(queries, selected_.begin());
  float* row = selected_rows_.data();
  for (const std::int32_t query : queries) row = std::copy_n(queries_.row(query), queries_.cols, row);
  screen_.begin(*context_->isa, {selected_rows_.data(), n_selected_, queries_.cols});
}

void ChunkSearch::screen_part(const RowSet& set, std::int64_t part, std::int64_t parts) {
  const std::int64_t count = by_place_ ? set.plane->places() : set.rows.rows;
  // Between two panels of the plane.
  const std::int64_t begin = count / kPanelRows * part / parts * kPanelRows;
  const std::int64_t end = part + 1 == parts ? count : count / kPanelRows * (part + 1) / parts * kPanelRows;
  if (!by_place_) return screen_rows(set, begin, end);
  if (set.plane->cells() != nullptr) return screen_cells(set, begin, end);
  std::vector<Places> places;
  for (const PlaneBlock& block : set.plane->blocks())
    if (const Places own = places_of(block, begin, end); own.begin < own.end) places.push_back(own);
  // Places are sorted: blocks come in an order that shows all kinds of rows early, or thresholds rise late.
  const std::int64_t step = stride_through(std::ssize(places));
  for (std::int64_t i = 0; i < std::ssize(places); ++i)
    screen_places(set, places[static_cast<std::size_t>(i * step % std::ssize(places))]);
}

ChunkSearch::Places ChunkSearch::places_of(const PlaneBlock& block, std::int64_t begin, std::int64_t end) {
  return {&block, std::max(begin, block.begin), std::min(end, block.end)};
}

void ChunkSearch::screen_places(const RowSet& set, const Places& places) {
  const PlaneQueries::Range all{0, n_selected_};
  if (on_plane_)
    screen_plane(set, places, {&all, 1});
  else
    screen_by_place(set, places);
}

void ChunkSearch::screen_cells(const RowSet& set, std::int64_t begin, std::int64_t end) {
  reach_.begin(*set.plane->cells(), set.plane->radii(), context_->metric, *context_->isa, queries_);
  const auto note_cuts = [this](const PlaneQueries::Range& queries) {
    for (std::int64_t q = queries.begin; q < queries.end; ++q) {
      if (cuts_[static_cast<std::size_t>(q)] == -kInfinity) prune(q);
      reach_.set_cut(q, cuts_[static_cast<std::size_t>(q)]);
    }
  };
  note_cuts({0, n_selected_});
  for (const std::uint32_t cell : reach_.order()) {
    const std::span<const PlaneQueries::Range> queries = queries_in_reach(cell);
    if (queries.empty()) continue;
    for (const PlaneBlock& block : set.plane->blocks_of(cell)) {
      const Places places = places_of(block, begin, end);
      if (places.begin >= places.end) continue;
      if (on_plane_)
        screen_plane(set, places, queries);
      else
        screen_by_place(set, places);
    }
    if (!on_plane_) note_cuts({0, n_selected_});
    for (const PlaneQueries::Range& range : queries) note_cuts(range);
  }
}

std::span<const PlaneQueries::Range> ChunkSearch::queries_in_reach(std::int64_t cell) {
  in_reach_.clear();
  for (std::int64_t begin = 0; begin < n_selected_; begin += kPanelRows) {
    const std::int64_t end = std::min(n_selected_, begin + kPanelRows);
    if (!reach_.is_needed(cell, begin, end)) continue;
    if (!in_reach_.empty() && in_reach_.back().end == begin)
      in_reach_.back().end = end;
    else
      in_reach_.push_back({begin, end});
  }
  return in_reach_;
}

void ChunkSearch::screen_plane(const RowSet& set, const Places& places,
                               std::span<const PlaneQueries::Range> queries) {
  set_tile(set, places.begin);
  for (const PlaneQueries::Range& range : queries) {
    for (std::int64_t slot = range.begin; slot < range.end; ++slot) {
      errors_[static_cast<std::size_t>(slot)] = plane_queries_.error(slot, *places.block);
      update_threshold(slot);
    }
    first_slot_ = range.begin;
    plane_queries_.screen(*set.plane, *places.block, places.begin, places.end, range, thresholds_.data(),
                          *this);
    const std::int64_t pairs = (range.end - range.begin) * (places.end - places.begin);
    counters_.distances += pairs;
    screened_ += pairs;
  }
  first_slot_ = 0;
  if (drowns()) leave_plane();
}

bool ChunkSearch::drowns() const {
  return forced_ * kScoresPerDistance > screened_ + kScoresPerDistance * n_selected_ * k_;
}

void ChunkSearch::leave_plane() {
  for (std::int64_t q = 0; q < queries_.rows; ++q) {
    if (counts_[static_cast<std::size_t>(q)] > 0) rerank(q);
    set_limit(q);
    offsets_[static_cast<std::size_t>(q)] = 0;
  }
  on_plane_ = false;
  left_plane_ = true;
  screen_.begin(*context_->isa, queries_);
}

void ChunkSearch::screen_rows(const RowSet& set, std::int64_t begin, std::int64_t end) {
  for (std::int64_t tile_begin = begin; tile_begin < end; tile_begin += base_tile_) {
    const std::int64_t tile_end = std::min(end, tile_begin + base_tile_);
    screen_tile(set, tile_begin, tile_end, set.norms->maxima(tile_begin, tile_end));
  }
}

void ChunkSearch::screen_by_place(const RowSet& set, const Places& places) {
  const RowMaxima maxima = maxima_of(set, *places.block);
  for (std::int64_t begin = places.begin; begin < places.end; begin += base_tile_)
    screen_tile(set, begin, std::min(places.end, begin + base_tile_), maxima);
}

void ChunkSearch::screen_tile(const RowSet& set, std::int64_t begin, std::int64_t end,
                              const RowMaxima& maxima) {
  set_tile(set, begin);
  for (std::int64_t slot = 0; slot < n_selected_; ++slot) {
    const auto query = static_cast<std::size_t>(selected_[static_cast<std::size_t>(slot)]);
    const double error = certificates_[query].error(maxima);
    errors_[static_cast<std::size_t>(slot)] = error;
    if (error == kInfinity) widened_[query] = 1;
    update_threshold(slot);
  }
  if (by_place_)
    screen_.run_places(set, begin, end, thresholds_.data(), *this);
  else
    screen_.run(set, begin, end, thresholds_.data(), *this);
  counters_.distances += n_selected_ * (end - begin);
}

RowMaxima ChunkSearch::maxima_of(const RowSet& set, const PlaneBlock& block) const {
  if (context_->metric == Metric::cosine) return set.norms->maxima();
  return {set.plane->row_norm(block), 0};
}

double ChunkSearch::screened_cut(std::int64_t query) const {
  const auto i = static_cast<std::size_t>(query);
  return cuts_[i] - offsets_[i];
}

void ChunkSearch::update_threshold(std::int64_t slot) {
  const auto i = static_cast<std::size_t>(slot);
  thresholds_[i] = screen_threshold(screened_cut(selected_[i]), errors_[i]);
}

void ChunkSearch::raise_cut(std::int64_t query, double cut) {
  const auto i = static_cast<std::size_t>(query);
  cuts_[i] = std::max(cuts_[i], cut);
}

void ChunkSearch::add(std::int64_t slot, std::int64_t row, float score) {
  slot += first_slot_;
  const auto i = static_cast<std::size_t>(slot);
  const std::int64_t query = selected_[i];
  std::int64_t& count = counts_[static_cast<std::size_t>(query)];
  if (count == limits_[static_cast<std::size_t>(query)]) {
    make_room(query);
    update_threshold(slot);
    if (score < thresholds_[i]) return;
  }
  Candidate& candidate = candidates(query)[count++];
  candidate.row = static_cast<std::uint32_t>(row_of_tile(row));
  const bool bounded = errors_[i] < kInfinity && std::isfinite(score);
  candidate.lower = bounded ? round_down(score - errors_[i]) : -kFloatInfinity;
  candidate.upper = bounded ? round_up(score + errors_[i]) : kFloatInfinity;
}

void ChunkSearch::make_room(std::int64_t query) {
  const auto i = static_cast<std::size_t>(query);
  prune(query);
  // Half of what lies beyond k must go, or prunings would come too often.
  if (counts_[i] > k_ + (capacity_ - k_) / 2) {
    widened_[i] = 1;
    forced_ += counts_[i];
    rerank(query);
  }
  set_limit(query);
}

void ChunkSearch::set_limit(std::int64_t query) {
  // Enough for a pruning to pay; more would only be taken by a threshold that is out of date.
  const auto i = static_cast<std::size_t>(query);
  const std::int64_t fresh = std::max({k_, kLeastFresh, counts_[i] / 2});
  limits_[i] = std::min(capacity_, std::max(counts_[i], k_) + fresh);
}

float ChunkSearch::kth_lower(std::int64_t query) {
  const std::int64_t count = counts_[static_cast<std::size_t>(query)];
  const Candidate* const first = candidates(query);
  std::transform(first, first + count, lowers_.begin(), [](const Candidate& c) { return c.lower; });
  return context_->isa->kth_largest(lowers_.data(), count, k_);
}

void ChunkSearch::prune(std::int64_t query) {
  const auto i = static_cast<std::size_t>(query);
  if (counts_[i] < k_) return;
  Candidate* const first = candidates(query);
  Candidate* const last = first + counts_[i];
  raise_cut(query, certificates_[i].cut().from_score(kth_lower(query) + offsets_[i]));
  const double cut = screened_cut(query);
  counts_[i] = std::remove_if(first, last, [cut](const Candidate& c) { return c.upper < cut; }) - first;
}

void ChunkSearch::rerank(std::int64_t query) {
  const auto i = static_cast<std::size_t>(query);
  prune(query);
  counters_.candidates += counts_[i];
  Candidate* const first = candidates(query);
  Candidate* const last = first + counts_[i];
  // The k best by score first: their exact distances exclude most of the others.
  Candidate* middle = last;
  if (counts_[i] > k_) {
    const float kth = kth_lower(query);
    middle = std::partition(first, last, [kth](const Candidate& c) { return c.lower >= kth; });
  }
  merge_exact(query, first, middle);
  const double cut = screened_cut(query);
  Candidate* const rest = std::remove_if(middle, last, [cut](const Candidate& c) { return c.upper < cut; });
  if (rest != middle) merge_exact(query, middle, rest);
  counts_[i] = 0;
}

void ChunkSearch::merge_exact(std::int64_t query, const Candidate* first, const Candidate* last) {
  const TypedView& base = context_->base.rows;
  const Closer closer(context_->metric);
  const auto count = static_cast<std::size_t>(last - first);
  std::array<const std::byte*, ExactDistances::kRowsAtOnce> rows{};
  std::array<float, ExactDistances::kRowsAtOnce> distances{};
  for (std::size_t begin = 0; begin < count; begin += rows.size()) {
    const std::size_t some = std::min(rows.size(), count - begin);
    for (std::size_t i = 0; i < some; ++i) {
      const Candidate* const c = first + begin + i;
      if (last - c > kPrefetchRows) prefetch_row(base.row(c[kPrefetchRows].row), base.row_bytes());
      rows[i] = base.row(c->row);
    }
    exact_distances_.distances(query, {rows.data(), some}, distances.data());
    for (std::size_t i = 0; i < some; ++i)
      exact_[begin + i] = {context_->ids[first[begin + i].row], distances[i]};
  }
  counters_.reranked += last - first;
  std::sort(exact_.begin(), exact_.begin() + static_cast<std::ptrdiff_t>(count),
            [closer](const Exact& a, const Exact& b) { return closer(a.id, a.distance, b.id, b.distance); });
  for (std::size_t e = 0; e < count; ++e) {
    fresh_neighbors_[e] = exact_[e].id;
    fresh_distances_[e] = exact_[e].distance;
  }
  const NeighborRow answer = this->answer(query);
  std::copy(answer.neighbors.begin(), answer.neighbors.end(), merged_neighbors_.begin());
  std::copy(answer.distances.begin(), answer.distances.end(), merged_distances_.begin());
  merge_rows({merged_neighbors_, merged_distances_},
             {{fresh_neighbors_.data(), count}, {fresh_distances_.data(), count}}, closer, answer);
  const auto kth = static_cast<std::size_t>(out_->k() - 1);
  if (answer.neighbors[kth] != kNoNeighbor)
    raise_cut(query,
              certificates_[static_cast<std::size_t>(query)].cut().from_distance(answer.distances[kth]));
}

void ChunkSearch::prune_all() {
  for (std::int64_t q = 0; q < queries_.rows; ++q) {
    prune(q);
    set_limit(q);
  }
}

void ChunkSearch::seed(const RowSet& sample) {
  // The sample's blocks have scales of their own.
  if (on_plane_ && !plane_queries_.fits(*sample.plane)) return;
  if (on_plane_ && sample.rows.rows >= kLeastGroups * k_ * kTileRows) {
    plane_queries_.kth_scores(*sample.plane, k_, thresholds_.data());
    for (std::int64_t q = 0; q < queries_.rows; ++q) {
      const auto i = static_cast<std::size_t>(q);
      raise_cut(q, certificates_[i].cut().from_score(thresholds_[i] + offsets_[i]));
    }
    std::fill(thresholds_.begin() + n_selected_, thresholds_.end(), kFloatInfinity);
    return;
  }
  screen_part(sample, 0, 1);
  keep_thresholds_only();
}

void ChunkSearch::keep_thresholds_only() {
  for (std::int64_t q = 0; q < queries_.rows; ++q) {
    prune(q);
    counts_[static_cast<std::size_t>(q)] = 0;
    set_limit(q);
    const NeighborRow answer = this->answer(q);
    std::fill(answer.neighbors.begin(), answer.neighbors.end(), kNoNeighbor);
    std::fill(answer.distances.begin(), answer.distances.end(), worst_distance(context_->metric));
    widened_[static_cast<std::size_t>(q)] = 0;
  }
  counters_ = counters_before_;
}

void ChunkSearch::finish() {
  for (std::int64_t q = 0; q < queries_.rows; ++q)
    if (counts_[static_cast<std::size_t>(q)] > 0) rerank(q);
}

}  // namespace mpishards::kernels::cpu

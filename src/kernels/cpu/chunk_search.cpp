#include "kernels/cpu/chunk_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/scratch.hpp"

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

}  // namespace

void ChunkSearch::reserve(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa) {
  const std::int64_t queries = plan.chunk_queries;
  capacity_ = plan.buffer_entries;
  base_tile_ = plan.base_tile;
  k_ = neighbors_kept(shape);
  set_size(candidates_, queries * capacity_);
  screen_.reserve(plan.query_tile, base_tile_, shape.d, shape.dtype, isa);
  if (plan.has_plane) plane_queries_.reserve(plan.query_tile, shape.d, plan.sample_rows, isa);
  exact_distances_.reserve(queries, shape.d);
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
      sizeof(Certificate) + 3 * sizeof(double) + 2 * sizeof(std::int64_t) + sizeof(char);
  constexpr std::int64_t kPerSelected = sizeof(std::int32_t) + sizeof(double);
  constexpr std::int64_t kNeighbor = sizeof(GlobalId) + sizeof(float);
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  const std::int64_t per_query =
      kPerQuery + plan.buffer_entries * static_cast<std::int64_t>(sizeof(Candidate));
  const std::int64_t per_selected = kPerSelected + (plan.by_list ? shape.d * kFloat : 0);
  const std::int64_t plane = plan.has_plane
                                 ? PlaneQueries::bytes_for(plan.query_tile, shape.d, plan.sample_rows, isa)
                                 : std::int64_t{0};
  return plan.chunk_queries * per_query + plan.query_tile * per_selected +
         padded_queries(plan.query_tile) * kFloat + plane + shape.d * kFloat +
         TileScreen::bytes_for(plan.query_tile, plan.base_tile, shape.d, shape.dtype, isa) +
         plan.buffer_entries * (static_cast<std::int64_t>(sizeof(Exact)) + kNeighbor) + shape.k * kNeighbor;
}

std::size_t ChunkSearch::bytes() const {
  return bytes_of(candidates_) + screen_.bytes() + exact_distances_.bytes() + bytes_of(certificates_) +
         plane_queries_.bytes() + bytes_of(cuts_) + bytes_of(offsets_) + bytes_of(counts_) +
         bytes_of(limits_) + bytes_of(widened_) + bytes_of(selected_) + bytes_of(selected_rows_) +
         bytes_of(errors_) + bytes_of(thresholds_) + bytes_of(exact_) + bytes_of(merged_neighbors_) +
         bytes_of(merged_distances_) + bytes_of(fresh_neighbors_) + bytes_of(fresh_distances_);
}

void ChunkSearch::begin(const SearchContext& context, MatrixView<const float> queries,
                        std::span<const float> bound, TopK& out, std::int64_t first_row) {
  context_ = &context;
  queries_ = queries;
  out_ = &out;
  first_row_ = first_row;
  counters_before_ = counters_;
  on_plane_ = false;
  left_plane_ = false;
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

void ChunkSearch::screen(const RowSet& set, std::int64_t begin, std::int64_t end) {
  if (on_plane_) begin = screen_plane(set, begin, end);
  if (begin < end) screen_rows(set, begin, end);
}

std::int64_t ChunkSearch::screen_plane(const RowSet& set, std::int64_t begin, std::int64_t end) {
  while (begin < end) {
    const std::int64_t tile_end = std::min(end, (begin / RowPlane::kBlockRows + 1) * RowPlane::kBlockRows);
    set_tile(begin, set.stride);
    const PlaneBlock& block = set.plane->block_of(begin);
    for (std::int64_t slot = 0; slot < n_selected_; ++slot) {
      errors_[static_cast<std::size_t>(slot)] = plane_queries_.error(slot, block);
      update_threshold(slot);
    }
    plane_queries_.screen(*set.plane, begin, tile_end, thresholds_.data(), *this);
    counters_.distances += n_selected_ * (tile_end - begin);
    screened_ += n_selected_ * (tile_end - begin);
    begin = tile_end;
    if (!drowns()) continue;
    leave_plane();
    break;
  }
  return begin;
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
    set_tile(tile_begin, set.stride);
    const RowMaxima maxima = set.norms->maxima(tile_begin, tile_end);
    for (std::int64_t slot = 0; slot < n_selected_; ++slot) {
      const auto query = static_cast<std::size_t>(selected_[static_cast<std::size_t>(slot)]);
      const double error = certificates_[query].error(maxima);
      errors_[static_cast<std::size_t>(slot)] = error;
      if (error == kInfinity) widened_[query] = 1;
      update_threshold(slot);
    }
    screen_.run(set, tile_begin, tile_end, thresholds_.data(), *this);
    counters_.distances += n_selected_ * (tile_end - tile_begin);
  }
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
  const auto i = static_cast<std::size_t>(slot);
  const std::int64_t query = selected_[i];
  std::int64_t& count = counts_[static_cast<std::size_t>(query)];
  if (count == limits_[static_cast<std::size_t>(query)]) {
    make_room(query);
    update_threshold(slot);
    if (score < thresholds_[i]) return;
  }
  Candidate& candidate = candidates(query)[count++];
  candidate.row = static_cast<std::uint32_t>((tile_begin_ + row) * tile_stride_);
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
  const std::int64_t fresh = std::max(k_, kLeastFresh);
  const auto i = static_cast<std::size_t>(query);
  limits_[i] = std::min(capacity_, std::max(counts_[i], k_) + fresh);
}

void ChunkSearch::prune(std::int64_t query) {
  const auto i = static_cast<std::size_t>(query);
  if (counts_[i] < k_) return;
  Candidate* const first = candidates(query);
  Candidate* const last = first + counts_[i];
  Candidate* const kth = first + (k_ - 1);
  std::nth_element(first, kth, last,
                   [](const Candidate& a, const Candidate& b) { return a.lower > b.lower; });
  raise_cut(query, certificates_[i].cut().from_score(kth->lower + offsets_[i]));
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
  Candidate* const middle = first + std::min(k_, counts_[i]);
  if (middle != last)
    std::nth_element(first, middle, last,
                     [](const Candidate& a, const Candidate& b) { return a.lower > b.lower; });
  merge_exact(query, first, middle);
  const double cut = screened_cut(query);
  Candidate* const rest = std::remove_if(middle, last, [cut](const Candidate& c) { return c.upper < cut; });
  if (rest != middle) merge_exact(query, middle, rest);
  counts_[i] = 0;
}

void ChunkSearch::merge_exact(std::int64_t query, const Candidate* first, const Candidate* last) {
  const TypedView& base = context_->base.rows;
  const Closer closer(context_->metric);
  std::size_t count = 0;
  for (const Candidate* c = first; c != last; ++c) {
    if (last - c > kPrefetchRows) prefetch_row(base.row(c[kPrefetchRows].row), base.row_bytes());
    exact_[count++] = {context_->ids[c->row], exact_distances_.distance(query, base.row(c->row))};
  }
  counters_.reranked += last - first;
  std::sort(exact_.begin(), exact_.begin() + static_cast<std::ptrdiff_t>(count),
            [closer](const Exact& a, const Exact& b) { return closer(a.id, a.distance, b.id, b.distance); });
  for (std::size_t e = 0; e < count; ++e) {
    fresh_neighbors_[e] = exact_[e].id;
    fresh_distances_[e] = exact_[e].distance;
  }
  const NeighborRow answer = out_->row(first_row_ + query);
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
      const double score = thresholds_[i] - plane_queries_.error(q, sample.plane->maxima());
      raise_cut(q, certificates_[i].cut().from_score(score + offsets_[i]));
    }
    std::fill(thresholds_.begin() + n_selected_, thresholds_.end(), kFloatInfinity);
    return;
  }
  screen(sample, 0, sample.rows.rows);
  keep_thresholds_only();
}

void ChunkSearch::keep_thresholds_only() {
  for (std::int64_t q = 0; q < queries_.rows; ++q) {
    prune(q);
    counts_[static_cast<std::size_t>(q)] = 0;
    set_limit(q);
    const NeighborRow answer = out_->row(first_row_ + q);
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

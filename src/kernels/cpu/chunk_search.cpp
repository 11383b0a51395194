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
  return plan.chunk_queries * per_query + plan.query_tile * per_selected +
         padded_queries(plan.query_tile) * kFloat + plane +
         ExactDistances::bytes_for(plan.chunk_queries, shape.d, shape.dtype) +
         TileScreen::bytes_for(plan.query_tile, plan.base_tile, shape.d, shape.dtype, plan.has_plane, isa) +
         plan.buffer_entries * (static_cast<std::int64_t>(sizeof(Exact)) + kNeighbor + kFloat) +
         shape.k * kNeighbor;
}

std::size_t ChunkSearch::bytes() const {
  return bytes_of(candidates_) + bytes_of(lowers_) + screen_.bytes() + exact_distances_.bytes() +
         bytes_of(certificates_) + plane_queries_.bytes() + bytes_of(cuts_) + bytes_of(offsets_) +
         bytes_of(counts_) + bytes_of(limits_) + bytes_of(widened_) + bytes_of(selected_) +
         bytes_of(selected_rows_) + bytes_of(errors_) + bytes_of(thresholds_) + bytes_of(exact_) +
         bytes_of(merged_neighbors_) + bytes_of(merged_distances_) + bytes_of(fresh_neighbors_) +
         bytes_of(fresh_distances_);
}

void ChunkSearch::begin(const SearchContext& context, MatrixView<const float> queries,
                        std::span<const float> bound, TopK& out, std::int64_t first_row) {
  context_ = &context;
  queries_ = queries;
  out_ = &out;
  first_row_ = first_row;
  counters_before_ = counters_;
  by_place_ = false;
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

void ChunkSearch::screen(const RowSet& set, std::int64_t begin, std::int64_t end) {
  if (!by_place_) return screen_rows(set, begin, end);
  const std::int64_t first = begin / RowPlane::kBlockRows;
  const std::int64_t blocks = (end - 1) / RowPlane::kBlockRows + 1 - first;
  // Places are sorted: blocks come in an order that shows all kinds of rows early, or thresholds rise late.
  const std::int64_t step = stride_through(blocks);
  for (std::int64_t i = 0; i < blocks; ++i) {
    const std::int64_t block = first + i * step % blocks;
    const std::int64_t from = std::max(begin, block * RowPlane::kBlockRows);
    const std::int64_t to = std::min(end, (block + 1) * RowPlane::kBlockRows);
    if (on_plane_)
      screen_plane(set, from, to);
    else
      screen_rows(set, from, to);
  }
}

void ChunkSearch::screen_plane(const RowSet& set, std::int64_t begin, std::int64_t end) {
  set_tile(set, begin);
  const PlaneBlock& block = set.plane->block_of(begin);
  for (std::int64_t slot = 0; slot < n_selected_; ++slot) {
    errors_[static_cast<std::size_t>(slot)] = plane_queries_.error(slot, block);
    update_threshold(slot);
  }
  plane_queries_.screen(*set.plane, begin, end, thresholds_.data(), *this);
  counters_.distances += n_selected_ * (end - begin);
  screened_ += n_selected_ * (end - begin);
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
    set_tile(set, tile_begin);
    const RowMaxima maxima = maxima_of(set, tile_begin, tile_end);
    for (std::int64_t slot = 0; slot < n_selected_; ++slot) {
      const auto query = static_cast<std::size_t>(selected_[static_cast<std::size_t>(slot)]);
      const double error = certificates_[query].error(maxima);
      errors_[static_cast<std::size_t>(slot)] = error;
      if (error == kInfinity) widened_[query] = 1;
      update_threshold(slot);
    }
    if (by_place_)
      screen_.run_places(set, tile_begin, tile_end, thresholds_.data(), *this);
    else
      screen_.run(set, tile_begin, tile_end, thresholds_.data(), *this);
    counters_.distances += n_selected_ * (tile_end - tile_begin);
  }
}

RowMaxima ChunkSearch::maxima_of(const RowSet& set, std::int64_t begin, std::int64_t end) const {
  if (!by_place_) return set.norms->maxima(begin, end);
  if (context_->metric == Metric::cosine) return set.norms->maxima();
  return {set.plane->row_norm(begin), 0};
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
      raise_cut(q, certificates_[i].cut().from_score(thresholds_[i] + offsets_[i]));
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

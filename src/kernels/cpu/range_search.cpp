#include "kernels/cpu/range_search.hpp"

#include <omp.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/topk.hpp"

namespace mpishards::kernels::cpu {

void RangeSearch::reserve(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa) {
  const auto queries = static_cast<std::size_t>(plan.query_tile);
  base_tile_ = plan.base_tile;
  screen_.reserve(plan.query_tile, plan.base_tile, shape.d, shape.dtype, false, isa);
  exact_distances_.reserve(plan.query_tile, shape.d, shape.dtype);
  certificates_.resize(queries);
  cuts_.resize(queries);
  thresholds_.resize(queries);
  widened_.resize(queries);
}

std::int64_t RangeSearch::bytes_for(const CpuSearchPlan& plan, const SearchShape& shape, const Isa& isa) {
  constexpr std::int64_t kPerQuery = sizeof(Certificate) + sizeof(double) + sizeof(float) + sizeof(char);
  constexpr std::int64_t kGrowth = 2;  // of a vector that doubles
  return plan.query_tile * kPerQuery + ExactDistances::bytes_for(plan.query_tile, shape.d, shape.dtype) +
         TileScreen::bytes_for(plan.query_tile, plan.base_tile, shape.d, shape.dtype, false, isa) +
         kGrowth * plan.query_tile * plan.base_tile * static_cast<std::int64_t>(sizeof(Pair));
}

std::size_t RangeSearch::bytes() const {
  return screen_.bytes() + exact_distances_.bytes() + certificates_.capacity() * sizeof(Certificate) +
         cuts_.capacity() * sizeof(double) + thresholds_.capacity() * sizeof(float) + widened_.capacity() +
         survivors_.capacity() * sizeof(Pair);
}

void RangeSearch::search(const SearchContext& context, const RangeRequest& request,
                         MatrixView<const float> queries, std::int64_t first, std::int64_t begin,
                         std::int64_t end, std::atomic<std::int64_t>& n_hits, std::vector<RangeHit>& hits) {
  request_ = request;
  queries_ = queries;
  first_ = first;
  screen_.begin(*context.isa, queries);
  exact_distances_.begin(context.metric, *context.isa, queries, context.base.rows.dtype);
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    const auto i = static_cast<std::size_t>(q);
    certificates_[i] = Certificate(context.metric, queries.cols, exact_distances_.query_squares(q),
                                   context.max_row_norm, context.error_factor);
    cuts_[i] = certificates_[i].cut().from_distance(request.limit);
    widened_[i] = 0;
  }
  for (std::int64_t tile = begin; tile < end; tile += base_tile_) {
    const std::size_t before = hits.size();
    screen_tile(context, tile, std::min(end, tile + base_tile_));
    keep_hits(context, hits);
    const auto found = static_cast<std::int64_t>(hits.size() - before);
    if (n_hits.fetch_add(found, std::memory_order_relaxed) + found > request.max_hits) return;
  }
}

void RangeSearch::screen_tile(const SearchContext& context, std::int64_t begin, std::int64_t end) {
  tile_begin_ = begin;
  const RowMaxima maxima = context.base.norms->maxima(begin, end);
  for (std::int64_t q = 0; q < queries_.rows; ++q) {
    const auto i = static_cast<std::size_t>(q);
    const double error = certificates_[i].error(maxima);
    if (error == std::numeric_limits<double>::infinity()) widened_[i] = 1;
    thresholds_[i] = screen_threshold(cuts_[i], error);
  }
  survivors_.clear();
  screen_.run(context.base, begin, end, thresholds_.data(), *this);
  counters_.distances += queries_.rows * (end - begin);
  counters_.candidates += std::ssize(survivors_);
}

void RangeSearch::add(std::int64_t query, std::int64_t row, float) {
  survivors_.push_back({static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(tile_begin_ + row)});
}

bool RangeSearch::is_asked_for(std::int64_t query, GlobalId id) const {
  if (request_.pairs == RangePairs::all) return true;
  const GlobalId self = request_.first_query + first_ + query;
  return request_.pairs == RangePairs::later ? id > self : id != self;
}

void RangeSearch::keep_hits(const SearchContext& context, std::vector<RangeHit>& hits) {
  const TypedView& base = context.base.rows;
  const bool smaller = smaller_is_better(context.metric);
  const float limit = request_.limit;
  for (const Pair& pair : survivors_) {
    const GlobalId id = context.ids[pair.row];
    if (!is_asked_for(pair.query, id)) continue;
    const float distance = exact_distances_.distance(pair.query, base.row(pair.row));
    ++counters_.reranked;
    if (smaller ? distance <= limit : distance >= limit) hits.push_back({first_ + pair.query, id, distance});
  }
}

std::int64_t first_row_asked_for(const RangeRequest& request, const RowIds& ids, std::int64_t rows,
                                 std::int64_t query) {
  if (request.pairs != RangePairs::later || !ids.explicit_ids.empty()) return 0;
  return std::clamp<std::int64_t>(request.first_query + query + 1 - ids.first, 0, rows);
}

RangeHits sorted_hits(std::span<const std::vector<RangeHit>> parts, std::int64_t nq, Metric metric,
                      int threads) {
  RangeHits answer;
  answer.offsets.assign(static_cast<std::size_t>(nq) + 1, 0);
  for (const auto& part : parts)
    for (const RangeHit& hit : part) ++answer.offsets[static_cast<std::size_t>(hit.query) + 1];
  std::partial_sum(answer.offsets.begin(), answer.offsets.end(), answer.offsets.begin());

  std::vector<std::int64_t> next(answer.offsets.begin(), answer.offsets.end() - 1);
  std::vector<RangeHit> all(static_cast<std::size_t>(answer.count()));
  for (const auto& part : parts)
    for (const RangeHit& hit : part)
      all[static_cast<std::size_t>(next[static_cast<std::size_t>(hit.query)]++)] = hit;

  answer.neighbors.resize(all.size());
  answer.distances.resize(all.size());
  const Closer closer(metric);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
  for (std::int64_t q = 0; q < nq; ++q) {
    const std::int64_t begin = answer.offsets[static_cast<std::size_t>(q)];
    const std::int64_t end = answer.offsets[static_cast<std::size_t>(q) + 1];
    std::sort(all.begin() + begin, all.begin() + end, [closer](const RangeHit& a, const RangeHit& b) {
      return closer(a.id, a.distance, b.id, b.distance);
    });
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      answer.neighbors[at] = all[at].id;
      answer.distances[at] = all[at].distance;
    }
  }
  return answer;
}

}  // namespace mpishards::kernels::cpu

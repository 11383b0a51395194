#include "kernels/cpu/list_search.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/search_calls.hpp"

namespace mpishards::kernels::cpu {
namespace {

/// Lists of this shard that a query can look into.
std::int64_t most_probed(const ListSearchShape& shape) {
  return std::min(shape.nprobe, shape.n_lists);
}

}  // namespace

void ProbeWalk::begin(const RowLists& lists) {
  lists_ = lists;
  walk_ = 0;
  set_size(last_walks_, lists.count());
  std::ranges::fill(last_walks_, 0);
}

std::size_t ProbeWalk::bytes() const {
  return bytes_of(last_walks_);
}

std::int64_t ProbeWalk::bytes_for(std::int64_t n_lists) {
  return n_lists * static_cast<std::int64_t>(sizeof(std::int64_t));
}

void ListSearch::reserve(const CpuSearchPlan& plan, const ListSearchShape& shape, const Isa& isa) {
  query_tile_ = plan.query_tile;
  k_ = shape.rows.k;
  search_.reserve(plan, shape.rows, isa);
  set_size(queries_, plan.chunk_queries * shape.rows.d);
  set_size(bound_, plan.chunk_queries);
  set_size(group_ends_, 2 * shape.n_lists + 1);
  set_size(members_, plan.chunk_queries * most_probed(shape));
}

std::int64_t ListSearch::bytes_for(const CpuSearchPlan& plan, const ListSearchShape& shape, const Isa& isa) {
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  constexpr std::int64_t kNeighbor = sizeof(GlobalId) + sizeof(float);
  constexpr auto kMember = static_cast<std::int64_t>(sizeof(std::int32_t));
  constexpr auto kEnd = static_cast<std::int64_t>(sizeof(std::int64_t));
  const std::int64_t per_query =
      (shape.rows.d + 1) * kFloat + shape.rows.k * kNeighbor + most_probed(shape) * kMember;
  return ChunkSearch::bytes_for(plan, shape.rows, isa) + plan.chunk_queries * per_query +
         (2 * shape.n_lists + 1) * kEnd + ProbeWalk::bytes_for(shape.n_lists);
}

std::size_t ListSearch::bytes() const {
  return search_.bytes() + bytes_of(answers_) + bytes_of(queries_) + bytes_of(bound_) + walk_.bytes() +
         bytes_of(group_ends_) + bytes_of(members_);
}

void ListSearch::search(const ListContext& context, std::span<const ProbingQuery> chunk, ListPart part) {
  gather(context, chunk);
  group(context, chunk);
  const std::int64_t nq = std::ssize(chunk);
  const std::int64_t d = context.queries.cols;
  if (answers_.nq() != nq || answers_.k() != k_ || answers_.metric() != context.search.metric)
    answers_ = TopK(nq, k_, context.search.metric);
  else
    fill_padding(answers_);
  const std::span<const float> bound =
      context.bound.empty() ? context.bound : std::span<const float>(bound_).first(chunk.size());
  search_.begin(context.search, {queries_.data(), nq, d}, bound, answers_, {});
  const std::int64_t n_lists = context.lists.count();
  for (std::int64_t g = 0; g < n_lists; ++g) screen(context, g, part);
  search_.prune_all();
  for (std::int64_t g = n_lists; g < 2 * n_lists; ++g) screen(context, g, part);
  search_.finish();
}

void ListSearch::gather(const ListContext& context, std::span<const ProbingQuery> chunk) {
  float* row = queries_.data();
  for (const ProbingQuery& probing : chunk)
    row = std::copy_n(context.queries.row(probing.query), context.queries.cols, row);
  if (context.bound.empty()) return;
  for (std::size_t place = 0; place < chunk.size(); ++place)
    bound_[place] = context.bound[static_cast<std::size_t>(chunk[place].query)];
}

void ListSearch::group(const ListContext& context, std::span<const ProbingQuery> chunk) {
  const std::int64_t n_lists = context.lists.count();
  const auto each_member = [&](auto visit) {
    walk_.begin(context.lists);
    for (std::size_t place = 0; place < chunk.size(); ++place) {
      bool is_nearest = true;
      walk_.each(probes_of(context.probes, chunk[place].query), [&](std::int64_t list) {
        visit(static_cast<std::size_t>(is_nearest ? list : n_lists + list), static_cast<std::int32_t>(place));
        is_nearest = false;
      });
    }
  };
  // A counting sort: sizes, then where each group begins, which filling moves to its end.
  std::ranges::fill(group_ends_, 0);
  each_member([&](std::size_t group, std::int32_t) { ++group_ends_[group + 1]; });
  std::partial_sum(group_ends_.begin(), group_ends_.end(), group_ends_.begin());
  each_member([&](std::size_t group, std::int32_t place) {
    members_[static_cast<std::size_t>(group_ends_[group]++)] = place;
  });
}

void ListSearch::screen(const ListContext& context, std::int64_t group, ListPart part) {
  const std::int64_t begin = group == 0 ? 0 : group_ends_[static_cast<std::size_t>(group - 1)];
  const std::int64_t end = group_ends_[static_cast<std::size_t>(group)];
  const RowRange rows = walk_.rows(group % context.lists.count());
  const std::int64_t first = rows.begin + rows.size() * part.number / part.count;
  const std::int64_t last = rows.begin + rows.size() * (part.number + 1) / part.count;
  if (first == last) return;
  for (std::int64_t tile = begin; tile < end; tile += query_tile_) {
    const std::int64_t size = std::min(query_tile_, end - tile);
    search_.select(std::span<const std::int32_t>(members_).subspan(static_cast<std::size_t>(tile),
                                                                   static_cast<std::size_t>(size)));
    search_.screen_rows(context.search.base, first, last);
  }
}

}  // namespace mpishards::kernels::cpu

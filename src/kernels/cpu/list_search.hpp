#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/topk.hpp"
#include "kernels/cpu/chunk_search.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"

namespace mpishards::kernels::cpu {

/// Rows [begin, end) of a shard.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
};

/// The lists of one query.
inline std::span<const std::int32_t> probes_of(const Probes& probes, std::int64_t query) {
  return {probes.row(query), static_cast<std::size_t>(probes.cols)};
}

/// Walks over the lists that a query looks into and that have rows here, nearest first, each once.
class ProbeWalk {
 public:
  /// Memory is kept. @param lists  checked: starts ascend from 0
  void begin(const RowLists& lists);
  std::size_t bytes() const;
  static std::int64_t bytes_for(std::int64_t n_lists);

  RowRange rows(std::int64_t list) const {
    const auto i = static_cast<std::size_t>(list);
    return {lists_.starts[i], lists_.starts[i + 1]};
  }

  /// Calls visit(list), list counted from the shard's first, for each list of a row of probes.
  template <class Visit>
  void each(std::span<const std::int32_t> probes, Visit visit) {
    ++walk_;
    for (const std::int32_t number : probes) {
      const std::int64_t list = number - lists_.first_list;
      if (number < 0 || list < 0 || list >= lists_.count() || rows(list).size() == 0) continue;
      std::int64_t& last_walk = last_walks_[static_cast<std::size_t>(list)];
      if (last_walk == walk_) continue;
      last_walk = walk_;
      visit(list);
    }
  }

 private:
  RowLists lists_;
  std::int64_t walk_ = 0;
  std::vector<std::int64_t> last_walks_;  // one a list
};

/// A query that looks into rows of this shard.
struct ProbingQuery {
  std::int64_t query = 0;
  std::int64_t nearest_list = 0;
  std::int64_t rows = 0;  // of all its lists
};

/// Part of each list that is searched: part `number` of `count`.
struct ListPart {
  std::int64_t number = 0;
  std::int64_t count = 1;
};

/// What all chunks of one search inside lists have in common.
struct ListContext {
  SearchContext search;
  RowLists lists;
  MatrixView<const float> queries;  // of the whole search
  Probes probes;
  std::span<const float> bound;
};

/// One thread's search of one chunk of queries inside the lists that they look into.
///
/// Each list is screened against exactly the queries that look into it. All lists come twice: at first
/// each query goes with its nearest list only, whose rows raise its threshold for all others.
class ListSearch {
 public:
  /// Room for plan.chunk_queries queries; memory is kept.
  void reserve(const CpuSearchPlan& plan, const ListSearchShape& shape, const Isa& isa);
  /// What reserve() and a search take, at most.
  static std::int64_t bytes_for(const CpuSearchPlan& plan, const ListSearchShape& shape, const Isa& isa);
  std::size_t bytes() const;

  /// @param chunk  queries, no more than reserved; those of like lists together search faster
  void search(const ListContext& context, std::span<const ProbingQuery> chunk, ListPart part);

  /// Of the last chunk, in its order.
  TopK& answers() { return answers_; }
  /// @param place  of a query in the last chunk
  bool is_widened(std::int64_t place) const { return search_.is_widened(place); }

  const SearchCounters& counters() const { return search_.counters(); }
  void reset_counters() { search_.reset_counters(); }

 private:
  void gather(const ListContext& context, std::span<const ProbingQuery> chunk);
  void group(const ListContext& context, std::span<const ProbingQuery> chunk);
  void screen(const ListContext& context, std::int64_t group, ListPart part);

  std::int64_t query_tile_ = 0;
  std::int64_t k_ = 0;
  ChunkSearch search_;
  TopK answers_;
  BulkVector<float> queries_;
  std::vector<float> bound_;
  ProbeWalk walk_;
  // Group g < n_lists: queries whose nearest list is g; group n_lists + g: others that look into g.
  std::vector<std::int64_t> group_ends_;
  BulkVector<std::int32_t> members_;  // places in the chunk, group by group
};

}  // namespace mpishards::kernels::cpu

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/topk.hpp"
#include "kernels/index.hpp"

// What every index does around its own search.
namespace mpishards::kernels {

/// @throws Error{usage} for less than one thread
void check_threads(int threads);

/// @throws Error{unavailable} for more rows than candidates can name, Error{internal} for another number of
/// ids
void check_build(TypedView base, const RowIds& ids);

/// @throws Error{usage} where queries and base differ in d
void check_dimension(TypedView base, MatrixView<const float> queries);

/// @throws Error{usage} as check_dimension, Error{internal} where bound or answer don't fit the queries
void check_search(TypedView base, MatrixView<const float> queries, std::span<const float> bound,
                  const TopK& out, Metric metric);

/// @throws Error{internal} for lists that are not those of the base's rows
void check_lists(TypedView base, const RowLists& lists);

/// @throws Error{internal} where queries of an inverted file have no probes, or those of others
void check_probes(MatrixView<const float> queries, const Probes& probes);

void fill_padding(TopK& out);

/// Makes padding of what is worse than the bound: which of these rows were met depends on tiles and threads;
/// without them the answer does not. @pre bound is empty or out.nq() long
void drop_beyond_bound(TopK& out, std::span<const float> bound);

/// Which queries of a search the screen did not prove at the first try. Threads may note different queries.
class WidenedQueries {
 public:
  void reset(std::int64_t queries) { widened_.assign(static_cast<std::size_t>(queries), 0); }
  void note(std::int64_t query) { widened_[static_cast<std::size_t>(query)] = 1; }
  void add_to(SearchCounters& counters) const;
  std::size_t bytes() const { return widened_.capacity(); }

 private:
  std::vector<char> widened_;
};

}  // namespace mpishards::kernels

#include "kernels/search_calls.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace mpishards::kernels {

void check_threads(int threads) {
  if (threads < 1)
    throw Error(ErrorKind::usage, "threads = " + std::to_string(threads) + ": must be at least 1");
}

void check_build(TypedView base, const RowIds& ids) {
  // Candidates hold 32-bit rows.
  if (base.rows > std::numeric_limits<std::uint32_t>::max())
    throw Error(ErrorKind::unavailable, "a shard of " + std::to_string(base.rows) +
                                            " rows, at most 4294967295 are possible; use more shards");
  if (!ids.explicit_ids.empty() && std::cmp_not_equal(ids.explicit_ids.size(), base.rows))
    throw Error(ErrorKind::internal,
                std::to_string(ids.explicit_ids.size()) + " ids for " + std::to_string(base.rows) + " rows");
}

void check_dimension(TypedView base, MatrixView<const float> queries) {
  if (base.rows > 0 && queries.cols != base.cols)
    throw Error(ErrorKind::usage, "queries.d = " + std::to_string(queries.cols) +
                                      ", base.d = " + std::to_string(base.cols) + ": they must be equal");
}

void check_search(TypedView base, MatrixView<const float> queries, std::span<const float> bound,
                  const TopK& out, Metric metric) {
  check_dimension(base, queries);
  if (!bound.empty() && std::cmp_not_equal(bound.size(), queries.rows))
    throw Error(ErrorKind::internal, "bound holds " + std::to_string(bound.size()) + " distances for " +
                                         std::to_string(queries.rows) + " queries");
  if (out.nq() != queries.rows || out.k() < 1 || out.metric() != metric)
    throw Error(ErrorKind::internal,
                "the answer has nq = " + std::to_string(out.nq()) + ", k = " + std::to_string(out.k()) +
                    " for " + std::to_string(queries.rows) + " queries, or another metric than the index");
}

void check_lists(TypedView base, const RowLists& lists) {
  if (base.rows == 0 && lists.starts.empty()) return;
  if (lists.starts.empty())
    throw Error(ErrorKind::internal, std::to_string(base.rows) + " rows of an inverted file without lists");
  if (lists.first_list < 0 || lists.starts.front() != 0 || lists.starts.back() != base.rows ||
      !std::ranges::is_sorted(lists.starts))
    throw Error(ErrorKind::internal, std::to_string(lists.count()) + " lists from number " +
                                         std::to_string(lists.first_list) + " on begin at row " +
                                         std::to_string(lists.starts.front()) + " and end at row " +
                                         std::to_string(lists.starts.back()) +
                                         "; they must ascend from 0 to nb = " + std::to_string(base.rows));
}

void check_probes(MatrixView<const float> queries, const Probes& probes) {
  if (queries.rows > 0 && (probes.cols < 1 || probes.rows != queries.rows))
    throw Error(ErrorKind::internal, "probes are " + std::to_string(probes.rows) + " x " +
                                         std::to_string(probes.cols) + " for " +
                                         std::to_string(queries.rows) + " queries of an inverted file");
}

void fill_padding(TopK& out) {
  std::fill_n(out.neighbors(), out.nq() * out.k(), kNoNeighbor);
  std::fill_n(out.distances(), out.nq() * out.k(), worst_distance(out.metric()));
}

void drop_beyond_bound(TopK& out, std::span<const float> bound) {
  if (bound.empty()) return;
  const bool smaller = smaller_is_better(out.metric());
  for (std::int64_t q = 0; q < out.nq(); ++q) {
    const float limit = bound[static_cast<std::size_t>(q)];
    const NeighborRow row = out.row(q);
    for (std::size_t i = row.neighbors.size(); i-- > 0;) {
      const bool worse = smaller ? row.distances[i] > limit : row.distances[i] < limit;
      if (!worse && row.neighbors[i] != kNoNeighbor) break;
      row.neighbors[i] = kNoNeighbor;
      row.distances[i] = worst_distance(out.metric());
    }
  }
}

void WidenedQueries::add_to(SearchCounters& counters) const {
  const auto widened = std::ranges::count(widened_, char{1});
  counters.queries += std::ssize(widened_);
  counters.widened += widened;
  counters.certified += std::ssize(widened_) - widened;
}

}  // namespace mpishards::kernels

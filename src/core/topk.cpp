#include "core/topk.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"

namespace mpishards {

TopK::TopK(std::int64_t nq, std::int64_t k, Metric metric)
    : nq_(nq),
      k_(k),
      metric_(metric),
      neighbors_(static_cast<std::size_t>(nq * k), kNoNeighbor),
      distances_(static_cast<std::size_t>(nq * k), worst_distance(metric)) {}

NeighborRow TopK::row(std::int64_t q) {
  const auto offset = static_cast<std::size_t>(q * k_);
  const auto count = static_cast<std::size_t>(k_);
  return {std::span(neighbors_).subspan(offset, count), std::span(distances_).subspan(offset, count)};
}

ConstNeighborRow TopK::row(std::int64_t q) const {
  const auto offset = static_cast<std::size_t>(q * k_);
  const auto count = static_cast<std::size_t>(k_);
  return {std::span(neighbors_).subspan(offset, count), std::span(distances_).subspan(offset, count)};
}

void merge_rows(ConstNeighborRow a, ConstNeighborRow b, Closer closer, NeighborRow out) {
  std::size_t i = 0;
  std::size_t j = 0;
  for (std::size_t o = 0; o < out.neighbors.size(); ++o) {
    const bool a_left = i < a.neighbors.size();
    const bool b_left = j < b.neighbors.size();
    if (!a_left && !b_left) return;
    const bool take_a =
        a_left && (!b_left || !closer(b.neighbors[j], b.distances[j], a.neighbors[i], a.distances[i]));
    if (take_a) {
      out.neighbors[o] = a.neighbors[i];
      out.distances[o] = a.distances[i++];
    } else {
      out.neighbors[o] = b.neighbors[j];
      out.distances[o] = b.distances[j++];
    }
  }
}

TopK without_entries(const TopK& rows, std::span<const GlobalId> ids) {
  TopK left(rows.nq(), rows.k() - 1, rows.metric());
  for (std::int64_t q = 0; q < rows.nq(); ++q) {
    const ConstNeighborRow from = rows.row(q);
    const NeighborRow to = left.row(q);
    const auto entry = std::ranges::find(from.neighbors, ids[static_cast<std::size_t>(q)]);
    const auto place = static_cast<std::size_t>(entry - from.neighbors.begin());
    for (std::size_t i = 0; i < to.neighbors.size(); ++i) {
      to.neighbors[i] = from.neighbors[i < place ? i : i + 1];
      to.distances[i] = from.distances[i < place ? i : i + 1];
    }
  }
  return left;
}

void merge_into(TopK& into, const TopK& other) {
  if (into.nq() != other.nq() || into.k() != other.k() || into.metric() != other.metric())
    throw Error(ErrorKind::internal, "merge_into: the two answers differ in nq, k or metric");
  TopK merged(1, std::max<std::int64_t>(into.k(), 1), into.metric());
  const Closer closer(into.metric());
  for (std::int64_t q = 0; q < into.nq(); ++q) {
    const NeighborRow scratch = merged.row(0);
    merge_rows(std::as_const(into).row(q), other.row(q), closer, scratch);
    std::ranges::copy(scratch.neighbors, into.row(q).neighbors.begin());
    std::ranges::copy(scratch.distances, into.row(q).distances.begin());
  }
}

}  // namespace mpishards

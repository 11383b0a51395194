#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/metric.hpp"
#include "core/types.hpp"

namespace mpishards {

/// The one total order of neighbors: better float32 distance first, then smaller id.
///
/// A padding entry (kNoNeighbor) comes after every real one, even one whose distance is infinite: as an
/// unsigned number its id is the largest there is.
class Closer {
 public:
  explicit Closer(Metric metric) : smaller_(smaller_is_better(metric)) {}
  constexpr explicit Closer(bool smaller_is_better) : smaller_(smaller_is_better) {}

  constexpr bool operator()(GlobalId id_a, float distance_a, GlobalId id_b, float distance_b) const {
    if (distance_a != distance_b) return smaller_ ? distance_a < distance_b : distance_a > distance_b;
    return static_cast<std::uint64_t>(id_a) < static_cast<std::uint64_t>(id_b);
  }

 private:
  bool smaller_;
};

/// Borrowed row of an answer: k ids and their k distances, best first.
struct NeighborRow {
  std::span<GlobalId> neighbors;
  std::span<float> distances;
};
struct ConstNeighborRow {
  std::span<const GlobalId> neighbors;
  std::span<const float> distances;
};

/// Answers to nq queries: nq x k ids and distances, each row best first and padded.
class TopK {
 public:
  TopK() = default;
  /// All entries are padding. @pre nq >= 0, k >= 1
  TopK(std::int64_t nq, std::int64_t k, Metric metric);

  std::int64_t nq() const { return nq_; }
  std::int64_t k() const { return k_; }
  Metric metric() const { return metric_; }

  NeighborRow row(std::int64_t q);
  ConstNeighborRow row(std::int64_t q) const;

  GlobalId* neighbors() { return neighbors_.data(); }
  const GlobalId* neighbors() const { return neighbors_.data(); }
  float* distances() { return distances_.data(); }
  const float* distances() const { return distances_.data(); }

  /// Distance of the k-th neighbor of query q, the worst distance while there are fewer.
  float kth_distance(std::int64_t q) const { return distances_[static_cast<std::size_t>((q + 1) * k_ - 1)]; }

  friend bool operator==(const TopK&, const TopK&) = default;

 private:
  std::int64_t nq_ = 0;
  std::int64_t k_ = 0;
  Metric metric_ = Metric::l2;
  std::vector<GlobalId> neighbors_;
  std::vector<float> distances_;
};

/// Merges two rows sorted by `closer` into the best out.neighbors.size() of both.
/// @pre out overlaps neither input; a.size() + b.size() >= out.size() or the rest of out is already padding
/// @par Cost  one comparison an output entry
void merge_rows(ConstNeighborRow a, ConstNeighborRow b, Closer closer, NeighborRow out);

/// Leaves out of each row q the first entry with id ids[q], or its last entry where there is none.
/// @pre ids.size() == rows.nq(), rows.k() >= 2 @return rows.nq() x (rows.k() - 1)
TopK without_entries(const TopK& rows, std::span<const GlobalId> ids);

/// Keeps in `into` the best k of both, row by row. @pre same nq, k and metric
void merge_into(TopK& into, const TopK& other);

}  // namespace mpishards

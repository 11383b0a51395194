#include "core/recall.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mpishards {

namespace {

/// The first `at` ids without padding, sorted, each once.
std::vector<GlobalId> sorted_ids(std::span<const GlobalId> neighbors, std::int64_t at) {
  const auto count = std::min(neighbors.size(), static_cast<std::size_t>(at));
  std::vector<GlobalId> ids(neighbors.begin(), neighbors.begin() + static_cast<std::ptrdiff_t>(count));
  std::erase(ids, kNoNeighbor);
  std::ranges::sort(ids);
  ids.erase(std::ranges::unique(ids).begin(), ids.end());
  return ids;
}

}  // namespace

double DistanceTolerance::slack(double distance) const {
  return absolute + relative * std::abs(distance);
}

RecallCount& RecallCount::operator+=(RecallCount other) {
  found += other.found;
  wanted += other.wanted;
  return *this;
}

RatioSum& RatioSum::operator+=(RatioSum other) {
  sum += other.sum;
  places += other.places;
  return *this;
}

RecallCount recall_by_distance(const ComparableRow& result, const ComparableRow& truth, std::int64_t at,
                               DistanceTolerance tolerance) {
  RecallCount count;
  double farthest = 0;
  for (std::size_t i = 0; i < std::min(truth.neighbors.size(), static_cast<std::size_t>(at)); ++i) {
    if (truth.neighbors[i] == kNoNeighbor) break;
    farthest = truth.distances[i];
    ++count.wanted;
  }
  const double limit = farthest + tolerance.slack(farthest);
  std::vector<GlobalId> close;
  for (std::size_t i = 0; i < std::min(result.neighbors.size(), static_cast<std::size_t>(at)); ++i)
    if (result.distances[i] <= limit) close.push_back(result.neighbors[i]);
  const auto distinct = static_cast<std::int64_t>(sorted_ids(close, at).size());
  count.found = std::min(count.wanted, distinct);
  return count;
}

RecallCount recall_by_id(std::span<const GlobalId> result, std::span<const GlobalId> truth, std::int64_t at) {
  const std::vector<GlobalId> found = sorted_ids(result, at);
  const std::vector<GlobalId> wanted = sorted_ids(truth, at);
  std::vector<GlobalId> both;
  std::ranges::set_intersection(found, wanted, std::back_inserter(both));
  return {static_cast<std::int64_t>(both.size()), static_cast<std::int64_t>(wanted.size())};
}

RatioSum distance_ratio(const ComparableRow& result, const ComparableRow& truth, std::int64_t at) {
  RatioSum ratio;
  const std::size_t places =
      std::min({result.neighbors.size(), truth.neighbors.size(), static_cast<std::size_t>(at)});
  for (std::size_t i = 0; i < places; ++i) {
    if (result.neighbors[i] == kNoNeighbor || truth.neighbors[i] == kNoNeighbor) continue;
    ratio.sum += result.distances[i] == truth.distances[i] ? 1.0 : result.distances[i] / truth.distances[i];
    ++ratio.places;
  }
  return ratio;
}

}  // namespace mpishards

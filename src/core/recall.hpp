#pragma once

#include <cstdint>
#include <span>

#include "core/types.hpp"

namespace mpishards {

/// Borrowed answer to one query, with distances in a convention where smaller is better.
struct ComparableRow {
  std::span<const GlobalId> neighbors;
  std::span<const double> distances;
};

/// How far apart two distances may be and still count as equal.
struct DistanceTolerance {
  double relative = 0;
  double absolute = 0;
  double slack(double distance) const;
};

/// Found of wanted neighbors, summed over queries.
struct RecallCount {
  std::int64_t found = 0;
  std::int64_t wanted = 0;
  /// 1 where nothing was wanted.
  double recall() const {
    return wanted == 0 ? 1.0 : static_cast<double>(found) / static_cast<double>(wanted);
  }
  RecallCount& operator+=(RecallCount other);
};

/// How many of the first `at` neighbors are as close as the at-th true one: an equal distance counts as
/// found, so that ties don't depend on who broke them how. A neighbor that is named twice counts once,
/// padding never.
RecallCount recall_by_distance(const ComparableRow& result, const ComparableRow& truth, std::int64_t at,
                               DistanceTolerance tolerance);

/// How many of the first `at` true ids are among the first `at` ids of the result.
RecallCount recall_by_id(std::span<const GlobalId> result, std::span<const GlobalId> truth, std::int64_t at);

/// Mean of result distance / true distance over the first `at` places, 1 where both are 0.
struct RatioSum {
  double sum = 0;
  std::int64_t places = 0;
  /// 1 where nothing was compared.
  double mean() const { return places == 0 ? 1.0 : sum / static_cast<double>(places); }
  RatioSum& operator+=(RatioSum other);
};
RatioSum distance_ratio(const ComparableRow& result, const ComparableRow& truth, std::int64_t at);

}  // namespace mpishards

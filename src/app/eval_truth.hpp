#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/truth_distances.hpp"
#include "core/metric.hpp"
#include "core/recall.hpp"

namespace mpishards::app {

/// Recall and distance ratio of the first `at` neighbors.
struct AtCount {
  std::int64_t at = 0;
  RecallCount by_distance;
  RecallCount by_id;
  RatioSum ratio;
};

/// Where two rows differ first, and a few entries around.
struct Difference {
  std::int64_t query = -1;  // row of the result
  std::size_t place = 0;
  std::string result_text;
  std::string truth_text;
};

struct Comparison {
  std::vector<AtCount> at;
  std::int64_t identical = 0;
  std::int64_t tied = 0;  // other ids, but the same distances place by place
  std::int64_t different = 0;
  Difference first;  // the first that is no tie, else the first tie
};

struct TruthTask {
  std::string result_path;
  std::string truth_path;
  double relative_tolerance = 0;
  std::vector<std::int64_t> at;  // numbers of neighbors to report; all that both files have is always added
  bool skip_larger_at = false;   // else one that a file does not have is an error
};

struct TruthReport {
  std::string result_path;
  std::string truth_path;
  Metric metric = Metric::l2;
  std::int64_t nq = 0;
  std::int64_t result_k = 0;
  std::int64_t truth_k = 0;  // where it is smaller, only so many places are compared
  Recognised recognised;
  DistanceTolerance tolerance;
  Comparison comparison;
};

/// Compares a result with ground truth, in the distances that both have in common.
/// @throws Error{input_missing|data}, also where the truth is one of other vectors or lacks some of the
/// queries; Error{usage} for an `at` beyond what both files have
TruthReport compare_with_truth(const TruthTask& task);
/// The same for what is open already; the task's paths are for messages.
TruthReport compare_with_truth(const io::ResultReader& result, const io::ResultReader& truth,
                               const TruthTask& task);

/// Why the result is not exactly the truth, or empty.
std::string objection(const TruthReport& report);

}  // namespace mpishards::app

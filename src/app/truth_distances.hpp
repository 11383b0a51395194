#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/metric.hpp"
#include "core/recall.hpp"
#include "io/results_writer.hpp"

namespace mpishards::app {

/// How a file writes distances, besides the way this program does.
struct Convention {
  const char* name;
  double (*to_comparable)(double written);  // the distance in which smaller is better and files are compared
};

/// Those in which a metric's distances are written, ours first.
std::vector<Convention> conventions_of(Metric metric);

/// The convention of a truth file, and how it was found.
struct Recognised {
  std::optional<Convention> convention;  // empty: the truth's distances can't be used
  std::string reason;
};

/// The rows of both files that answer the same queries.
struct Pairing {
  const io::ResultReader& result;
  const io::ResultReader& truth;
  std::int64_t truth_begin = 0;  // row of the truth that fits the result's row 0
  std::int64_t nq = 0;
};

bool equal_within(double a, double b, DistanceTolerance tolerance);

/// By the attribute `distance`, else by the values: the convention in which most distances of the same
/// neighbors agree.
/// @throws Error{data} where the truth says that it is one of another metric
Recognised recognise(const Pairing& pairing, const std::string& truth_path, Metric metric,
                     DistanceTolerance tolerance);

}  // namespace mpishards::app

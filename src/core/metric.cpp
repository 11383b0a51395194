#include "core/metric.hpp"

#include <limits>

#include "core/error.hpp"

namespace mpishards {

namespace {

struct MetricRow {
  Metric metric;
  std::string_view name;
  bool smaller_is_better;
};

constexpr MetricRow kMetrics[] = {
    {Metric::l2, "l2", true},
    {Metric::ip, "ip", false},
    {Metric::cosine, "cosine", false},
};

const MetricRow& row_of(Metric metric) {
  return kMetrics[static_cast<std::size_t>(metric)];
}

}  // namespace

bool smaller_is_better(Metric metric) {
  return row_of(metric).smaller_is_better;
}

float worst_distance(Metric metric) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return smaller_is_better(metric) ? kInfinity : -kInfinity;
}

std::string_view to_string(Metric metric) {
  return row_of(metric).name;
}

std::string metric_names() {
  std::string names;
  for (const MetricRow& row : kMetrics) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

Metric metric_from_string(std::string_view text) {
  for (const MetricRow& row : kMetrics)
    if (row.name == text) return row.metric;
  throw Error(ErrorKind::usage, "unknown metric '" + std::string(text) + "'; known: " + metric_names());
}

}  // namespace mpishards

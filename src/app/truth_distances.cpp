#include "app/truth_distances.hpp"

#include <algorithm>
#include <cmath>

#include "app/result_attributes.hpp"
#include "core/error.hpp"

namespace mpishards::app {

namespace {

/// l2 is compared as the Euclidean distance, cosine as 1 - similarity, ip as the negated product.
double root_of(double squared) {
  return std::sqrt(std::max(squared, 0.0));
}
double one_minus(double similarity) {
  return 1.0 - similarity;
}
double negated(double product) {
  return -product;
}
double as_written(double distance) {
  return distance;
}

constexpr Convention kSquared = {"squared Euclidean", root_of};
constexpr Convention kEuclidean = {"Euclidean (square root of l2)", as_written};
constexpr Convention kSimilarity = {"cosine similarity", one_minus};
constexpr Convention kAngular = {"angular (1 - cosine)", as_written};
constexpr Convention kProduct = {"inner product", negated};
constexpr Convention kNegatedProduct = {"negated inner product", as_written};

/// By the attribute `distance` that this program and ann-benchmarks write.
std::optional<Recognised> recognise_by_attribute(const io::ResultReader& truth, const std::string& path,
                                                 Metric metric) {
  const std::optional<std::string> distance = attribute<std::string>(truth, "distance");
  if (!distance) return std::nullopt;
  struct Row {
    const char* name;
    Metric metric;
    Convention convention;
  };
  constexpr Row kRows[] = {{"euclidean_squared", Metric::l2, kSquared},
                           {"euclidean", Metric::l2, kEuclidean},
                           {"cosine_similarity", Metric::cosine, kSimilarity},
                           {"angular", Metric::cosine, kAngular},
                           {"inner_product", Metric::ip, kProduct}};
  for (const Row& row : kRows) {
    if (*distance != row.name) continue;
    if (row.metric != metric)
      throw Error(ErrorKind::data, path + " is the truth for metric " + std::string(to_string(row.metric)) +
                                       " (attribute distance = " + *distance + "), the result has metric " +
                                       std::string(to_string(metric)));
    return Recognised{row.convention, "by its attribute distance = " + *distance};
  }
  return std::nullopt;
}

/// By values: the convention in which most distances of the same ids agree.
Recognised recognise_by_values(const Pairing& pairing, Metric metric, DistanceTolerance tolerance) {
  const std::int64_t nq = std::min<std::int64_t>(pairing.nq, 1000);
  const TopK result = pairing.result.read(0, nq);
  const TopK truth = pairing.truth.read(pairing.truth_begin, pairing.truth_begin + nq);
  const std::vector<Convention> known = conventions_of(metric);
  std::vector<std::int64_t> agreeing(known.size(), 0);
  std::int64_t same_ids = 0;
  for (std::int64_t q = 0; q < nq; ++q) {
    const ConstNeighborRow found = result.row(q);
    const ConstNeighborRow wanted = truth.row(q);
    for (std::size_t i = 0; i < std::min(found.neighbors.size(), wanted.neighbors.size()); ++i) {
      if (found.neighbors[i] != wanted.neighbors[i] || found.neighbors[i] == kNoNeighbor) continue;
      ++same_ids;
      const double ours = known[0].to_comparable(found.distances[i]);
      for (std::size_t c = 0; c < known.size(); ++c)
        if (equal_within(ours, known[c].to_comparable(wanted.distances[i]), tolerance)) ++agreeing[c];
    }
  }
  const auto best = static_cast<std::size_t>(std::ranges::max_element(agreeing) - agreeing.begin());
  if (agreeing[best] == 0)
    return {std::nullopt, "its distances fit no known convention, so ids alone are compared"};
  return {known[best], "by its values: " + std::to_string(agreeing[best]) + " of " +
                           std::to_string(same_ids) + " distances of the same neighbor agree"};
}

}  // namespace

std::vector<Convention> conventions_of(Metric metric) {
  switch (metric) {
    case Metric::l2:
      return {kSquared, kEuclidean};
    case Metric::cosine:
      return {kSimilarity, kAngular};
    case Metric::ip:
      break;
  }
  return {kProduct, kNegatedProduct};
}

bool equal_within(double a, double b, DistanceTolerance tolerance) {
  return a == b || std::abs(a - b) <= tolerance.slack(b);
}

Recognised recognise(const Pairing& pairing, const std::string& truth_path, Metric metric,
                     DistanceTolerance tolerance) {
  if (!pairing.truth.has_distances()) return {std::nullopt, "it has no distances, so ids alone are compared"};
  if (std::optional<Recognised> recognised = recognise_by_attribute(pairing.truth, truth_path, metric))
    return *recognised;
  return recognise_by_values(pairing, metric, tolerance);
}

}  // namespace mpishards::app

#include "rank/plain_distance.hpp"

#include <array>
#include <cmath>

namespace mpishards::rank {

namespace {

constexpr std::int64_t kLanes = 8;

/// Sum of term(q[i], x[i]) in double, in a few independent parts, which a compiler can keep in vector
/// registers.
template <class Term>
double sum_of(const float* query, const float* row, std::int64_t d, Term term) {
  std::array<double, kLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes)
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      lanes[static_cast<std::size_t>(lane)] += term(double{query[i + lane]}, double{row[i + lane]});
  double sum = 0;
  for (; i < d; ++i) sum += term(double{query[i]}, double{row[i]});
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double distance_of(Metric metric, const float* query, const float* row, std::int64_t d) {
  const auto product = [](double q, double x) { return q * x; };
  switch (metric) {
    case Metric::l2:
      return sum_of(query, row, d, [](double q, double x) { return (q - x) * (q - x); });
    case Metric::ip:
      return sum_of(query, row, d, product);
    case Metric::cosine: {
      const double norms = sum_of(query, query, d, product) * sum_of(row, row, d, product);
      return norms > 0 ? sum_of(query, row, d, product) / std::sqrt(norms) : 0.0;
    }
  }
  return 0;
}

bool within_one_ulp(float a, float b) {
  return a == b || std::nextafter(a, b) == b;
}

}  // namespace mpishards::rank

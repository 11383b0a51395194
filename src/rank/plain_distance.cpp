#include "rank/plain_distance.hpp"

#include <array>
#include <cmath>

namespace mpishards::rank {

namespace {

constexpr std::int64_t kLanes = 8;

/// Sum of term(q[i], x[i]) in double, in a few independent parts, which a compiler can keep in vector
/// registers.
template <class Term>
[[gnu::always_inline]] inline double sum_of(const float* query, const float* row, std::int64_t d, Term term) {
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

struct Product {
  [[gnu::always_inline]] double operator()(double q, double x) const { return q * x; }
};
struct SquaredDifference {
  [[gnu::always_inline]] double operator()(double q, double x) const { return (q - x) * (q - x); }
};

using Sum = double (*)(const float*, const float*, std::int64_t);

double product(const float* query, const float* row, std::int64_t d) {
  return sum_of(query, row, d, Product());
}

double squared_distance(const float* query, const float* row, std::int64_t d) {
  return sum_of(query, row, d, SquaredDifference());
}

// The same additions in wider registers.
#if defined(__x86_64__)
[[gnu::target("avx2")]] double product_avx2(const float* query, const float* row, std::int64_t d) {
  return sum_of(query, row, d, Product());
}

[[gnu::target("avx2")]] double squared_distance_avx2(const float* query, const float* row, std::int64_t d) {
  return sum_of(query, row, d, SquaredDifference());
}

const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
const Sum widest_product = has_avx2 ? product_avx2 : product;
const Sum widest_squared_distance = has_avx2 ? squared_distance_avx2 : squared_distance;
#else
const Sum widest_product = product;
const Sum widest_squared_distance = squared_distance;
#endif

}  // namespace

double distance_of(Metric metric, const float* query, const float* row, std::int64_t d) {
  switch (metric) {
    case Metric::l2:
      return widest_squared_distance(query, row, d);
    case Metric::ip:
      return widest_product(query, row, d);
    case Metric::cosine: {
      const double norms = widest_product(query, query, d) * widest_product(row, row, d);
      return norms > 0 ? widest_product(query, row, d) / std::sqrt(norms) : 0.0;
    }
  }
  return 0;
}

bool within_one_ulp(float a, float b) {
  return a == b || std::nextafter(a, b) == b;
}

}  // namespace mpishards::rank

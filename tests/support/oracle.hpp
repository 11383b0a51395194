#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

/// Exact answers by the plainest means: a triple loop in double and a full sort. Shares no code with the
/// search.
namespace mpishards::oracle {

enum class Measure { l2, ip, cosine };

struct Answer {
  std::vector<std::int64_t> neighbors;  // nq x k
  std::vector<float> distances;
};

inline double distance(const float* a, const float* b, std::int64_t d, Measure measure) {
  double ab = 0;
  double aa = 0;
  double bb = 0;
  double difference = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    const double x = a[i];
    const double y = b[i];
    ab += x * y;
    aa += x * x;
    bb += y * y;
    difference += (x - y) * (x - y);
  }
  if (measure == Measure::l2) return difference;
  if (measure == Measure::ip) return ab;
  return aa * bb > 0 ? ab / std::sqrt(aa * bb) : 0.0;
}

/// @param ids  empty: row numbers
inline Answer search(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                     std::int64_t k, Measure measure, const std::vector<std::int64_t>& ids = {}) {
  const bool smaller = measure == Measure::l2;
  const auto nb = static_cast<std::int64_t>(base.size()) / d;
  const auto nq = static_cast<std::int64_t>(queries.size()) / d;
  Answer answer;
  for (std::int64_t q = 0; q < nq; ++q) {
    std::vector<std::pair<float, std::int64_t>> all;  // sorted by the rounded distance, then id
    for (std::int64_t row = 0; row < nb; ++row) {
      const auto rounded = static_cast<float>(distance(&queries[static_cast<std::size_t>(q * d)],
                                                       &base[static_cast<std::size_t>(row * d)], d, measure));
      all.emplace_back(smaller ? rounded : -rounded, ids.empty() ? row : ids[static_cast<std::size_t>(row)]);
    }
    std::sort(all.begin(), all.end());
    for (std::int64_t i = 0; i < k; ++i) {
      const float infinity = std::numeric_limits<float>::infinity();
      const bool is_real = i < nb;
      const float key = is_real ? all[static_cast<std::size_t>(i)].first : infinity;
      answer.neighbors.push_back(is_real ? all[static_cast<std::size_t>(i)].second : -1);
      answer.distances.push_back(smaller ? key : -key);
    }
  }
  return answer;
}

}  // namespace mpishards::oracle

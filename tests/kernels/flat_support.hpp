#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/convert.hpp"
#include "kernels/cpu/flat.hpp"
#include "support/oracle.hpp"

namespace mpishards::kernels {

inline const Metric kMetrics[] = {Metric::l2, Metric::ip, Metric::cosine};

inline oracle::Measure measure_of(Metric metric) {
  if (metric == Metric::l2) return oracle::Measure::l2;
  return metric == Metric::ip ? oracle::Measure::ip : oracle::Measure::cosine;
}

inline TypedView view_of(const std::vector<float>& values, std::int64_t d) {
  return {DType::f32, reinterpret_cast<const std::byte*>(values.data()),
          static_cast<std::int64_t>(values.size()) / d, d};
}

inline MatrixView<const float> queries_of(const std::vector<float>& values, std::int64_t d) {
  return {values.data(), static_cast<std::int64_t>(values.size()) / d, d};
}

inline std::vector<float> normal_vectors(std::int64_t rows, std::int64_t d, unsigned seed, float mean = 0,
                                         float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> values(mean, deviation);
  std::vector<float> out(static_cast<std::size_t>(rows * d));
  for (float& value : out) value = values(random);
  return out;
}

/// All products positive and of every magnitude: rounding errors have little to cancel with.
inline std::vector<float> positive_vectors(std::int64_t rows, std::int64_t d, unsigned seed,
                                           float exponent_range) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> exponents(-exponent_range, exponent_range);
  std::vector<float> out(static_cast<std::size_t>(rows * d));
  for (float& value : out) value = std::exp2(exponents(random));
  return out;
}

inline bool has_isa(const std::string& name) {
  const std::vector<std::string> names = isa_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// S of score_cut.hpp in long double, which has 11 bits more than the double that is bounded elsewhere.
inline long double exact_score(const float* q, const float* x, std::int64_t d, Metric metric) {
  long double dot = 0;
  long double squares = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    dot += static_cast<long double>(q[i]) * x[i];
    squares += static_cast<long double>(x[i]) * x[i];
  }
  if (metric == Metric::l2) return dot - squares / 2;
  if (metric == Metric::ip) return dot;
  return squares > 0 ? dot / std::sqrt(squares) : 0;
}

struct Settings {
  int threads = 1;
  std::string isa = "auto";
  cpu::FlatOverrides overrides;
};

inline TopK search_typed(TypedView base, const std::vector<float>& queries, std::int64_t k, Metric metric,
                         const Settings& settings = {}, RowIds ids = {}, std::span<const float> bound = {},
                         SearchCounters* counters = nullptr) {
  cpu::FlatOverrides overrides = settings.overrides;
  overrides.queries_worth_packing =
      overrides.queries_worth_packing.value_or(1);  // so that few queries test it
  const auto index = cpu::make_flat(metric, {settings.threads, settings.isa, 0}, overrides);
  index->build(base, ids);
  TopK out(static_cast<std::int64_t>(queries.size()) / base.cols, k, metric);
  index->search(queries_of(queries, base.cols), bound, out);
  if (counters != nullptr) *counters = index->counters();
  return out;
}

inline TopK search_flat(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                        std::int64_t k, Metric metric, const Settings& settings = {}) {
  return search_typed(view_of(base, d), queries, k, metric, settings);
}

inline void expect_answer(const TopK& found, const oracle::Answer& expected, const std::string& what) {
  for (std::int64_t i = 0; i < found.nq() * found.k(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    ASSERT_EQ(found.neighbors()[i], expected.neighbors[at])
        << what << ", query " << i / found.k() << " place " << i % found.k();
    ASSERT_EQ(found.distances()[i], expected.distances[at])
        << what << ", query " << i / found.k() << " place " << i % found.k();
  }
}

/// Searches and compares with the oracle.
inline void expect_exact(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                         std::int64_t k, Metric metric, const Settings& settings = {}) {
  const std::string what = std::string(to_string(metric)) + " nb " +
                           std::to_string(base.size() / std::size_t(d)) + " d " + std::to_string(d) + " k " +
                           std::to_string(k) + " " + settings.isa + " threads " +
                           std::to_string(settings.threads);
  expect_answer(search_flat(base, queries, d, k, metric, settings),
                oracle::search(base, queries, d, k, measure_of(metric)), what);
}

}  // namespace mpishards::kernels

#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "flat_support.hpp"
#include "kernels/cpu/isa.hpp"

// Rows in clusters, and searches that divide them into cells.
namespace mpishards::kernels::cpu {

inline constexpr std::int64_t kRows = 33000;
inline constexpr std::int64_t kDim = 8;
inline constexpr std::int64_t kClusters = 40;

inline const Isa* plane_isa() {
  for (const Isa& isa : isa_registry())
    if (isa.plane != nullptr && isa.is_supported()) return &isa;
  return nullptr;
}

/// Normal vectors around normal centers, moved away from the origin. @param used  of the centers
inline std::vector<float> clusters(std::int64_t rows, unsigned seed, float width = 0.4f, float mean = 0,
                                   std::int64_t d = kDim, std::int64_t used = kClusters) {
  const auto centers = normal_vectors(kClusters, d, 77, 0, 5);
  auto out = normal_vectors(rows, d, seed, mean, width);
  std::mt19937 random(seed);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto cluster = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(used));
    for (std::int64_t i = 0; i < d; ++i)
      out[static_cast<std::size_t>(row * d + i)] += centers[static_cast<std::size_t>(cluster * d + i)];
  }
  return out;
}

class CellSearch : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  }

  /// Two threads share the base between them where queries are as few as here.
  static Settings divided(int threads = 1) {
    Settings settings{threads, std::string(plane_isa()->name), {}};
    settings.overrides.queries_worth_cell = 0;
    return settings;
  }

  /// @return the part of all pairs that was screened
  static double screened_of_exact_search(TypedView base, const oracle::Answer& expected,
                                         const std::vector<float>& queries, std::int64_t k,
                                         const Settings& settings) {
    SearchCounters counters;
    const TopK found = search_typed(base, queries, k, GetParam(), settings, {}, {}, &counters);
    expect_answer(found, expected, "k " + std::to_string(k));
    EXPECT_EQ(counters.certified + counters.widened, found.nq());
    return static_cast<double>(counters.distances) / static_cast<double>(found.nq() * base.rows);
  }

  static void expect_exact(const std::vector<float>& base, std::int64_t d, const std::vector<float>& queries,
                           const std::string& what) {
    SCOPED_TRACE(what);
    screened_of_exact_search(view_of(base, d), oracle::search(base, queries, d, 10, measure_of(GetParam())),
                             queries, 10, divided());
  }
};

}  // namespace mpishards::kernels::cpu

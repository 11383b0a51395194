#include <gtest/gtest.h>

#include <random>
#include <tuple>
#include <vector>

#include "cells_support.hpp"
#include "support/exact_vectors.hpp"

namespace mpishards::kernels::cpu {
namespace {

TEST_P(CellSearch, equals_the_oracle_and_passes_over_most_cells) {
  const auto base = clusters(kRows, 1);
  const auto queries = clusters(70, 2, 0.4f, 0, kDim, 4);
  // More neighbors than a cluster has rows lie in other clusters.
  for (const auto& [k, type, most] :
       {std::tuple{1, PlaneType::bf16, 0.5}, {10, PlaneType::s8, 0.5}, {1200, PlaneType::bf16, 1.0}}) {
    const auto expected = oracle::search(base, queries, kDim, k, measure_of(GetParam()));
    Settings settings = divided(k == 10 ? 2 : 1);
    settings.overrides.plane = type;
    EXPECT_LT(screened_of_exact_search(view_of(base, kDim), expected, queries, k, settings), most)
        << "k " << k;
  }
}

TEST_P(CellSearch, equals_the_oracle_with_bytes_and_ties) {
  std::mt19937 random(5);
  const auto centers = exact_vectors::make(kClusters, kDim, 6, 20, 230);
  const auto make = [&](std::int64_t rows, std::int64_t used) {
    auto out = exact_vectors::make(rows, kDim, 7 + static_cast<unsigned>(rows), -2, 2);
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto cluster = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(used));
      for (std::int64_t i = 0; i < kDim; ++i)
        out[static_cast<std::size_t>(row * kDim + i)] +=
            centers[static_cast<std::size_t>(cluster * kDim + i)];
    }
    return out;
  };
  const auto base = make(kRows, kClusters);
  const auto queries = make(70, 4);
  std::vector<std::byte> bytes(base.size());
  std::ranges::transform(base, bytes.begin(), [](float value) { return static_cast<std::byte>(value); });
  const double screened = screened_of_exact_search(
      {DType::u8, bytes.data(), kRows, kDim}, oracle::search(base, queries, kDim, 20, measure_of(GetParam())),
      queries, 20, divided());
  EXPECT_LT(screened, 0.5);
}

TEST_P(CellSearch, leaves_data_without_clusters_in_one_piece) {
  const auto base = normal_vectors(kRows, 40, 1);
  const auto queries = normal_vectors(70, 40, 2);
  const auto expected = oracle::search(base, queries, 40, 10, measure_of(GetParam()));
  EXPECT_EQ(screened_of_exact_search(view_of(base, 40), expected, queries, 10, divided()), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Metrics, CellSearch, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

}  // namespace
}  // namespace mpishards::kernels::cpu

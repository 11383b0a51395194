#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "cells_support.hpp"

namespace mpishards::kernels::cpu {
namespace {

TEST_P(CellSearch, is_exact_where_bounds_prove_too_little) {
  // Distances inside a cluster differ far below what a plane resolves.
  const auto base = clusters(kRows, 1, 1e-5f);
  const auto queries = clusters(70, 2, 1e-5f);
  expect_exact(base, kDim, queries, "tiny clusters");
  // All rows are one of a few.
  auto repeated = base;
  for (std::size_t i = 0; i < repeated.size(); ++i) repeated[i] = base[i % (kClusters * kDim)];
  expect_exact(repeated, kDim, queries, "duplicates");
}

TEST_P(CellSearch, is_exact_near_the_end_of_float32) {
  auto base = clusters(kRows, 1);
  const auto queries = clusters(70, 2);
  base[24 * kDim] = 1e20f;  // in the sample
  expect_exact(base, kDim, queries, "one huge row");
  base = clusters(kRows, 1);
  for (float& value : base) value *= 1e15f;
  auto far = queries;
  // Squared distances on both sides of the largest float.
  for (std::size_t i = 0; i < far.size(); ++i) {
    const auto steps = static_cast<float>(i / kDim);
    far[i] = far[i] * 1e15f + (i % kDim == 0 ? 1.8446e19f * (1 + (steps - 35) * 2e-4f) : 0.0f);
  }
  expect_exact(base, kDim, far, "far queries");
  for (float& value : base) value *= 1e15f;
  expect_exact(base, kDim, queries, "huge rows");
}

TEST_P(CellSearch, goes_on_with_few_queries_bounds_and_other_rows) {
  cpu::FlatOverrides overrides;
  overrides.queries_worth_cell = 0;
  overrides.queries_worth_packing = 1;
  const auto index = make_flat(GetParam(), {2, std::string(plane_isa()->name), 0}, overrides);
  const auto search = [&](const std::vector<float>& base, std::int64_t nq, std::span<const float> bound) {
    const auto queries = clusters(nq, 9);
    TopK out(nq, 10, GetParam());
    index->search(queries_of(queries, kDim), bound, out);
    expect_answer(out, oracle::search(base, queries, kDim, 10, measure_of(GetParam())),
                  std::to_string(nq) + " queries");
    return std::vector<float>(out.distances(), out.distances() + nq * 10);
  };
  const auto base = clusters(kRows, 1);
  index->build(view_of(base, kDim), {});
  search(base, 10, {});  // packed, not divided
  const auto distances = search(base, 140, {});
  search(base, 1, {});
  search(base, 10, {});
  std::vector<float> bound(140);
  for (std::size_t q = 0; q < bound.size(); ++q) bound[q] = distances[q * 10 + 9];
  search(base, 140, bound);
  const auto others = normal_vectors(kRows / 4, kDim, 3);
  index->build(view_of(others, kDim), {});
  search(others, 70, {});
  const CpuSearchPlan plan =
      plan_cpu_search({kRows, 140, kDim, 10, DType::f32}, {.threads = 2, .isa = plane_isa()->name});
  EXPECT_LE(index->bytes(), static_cast<std::size_t>(plan.index_bytes + plan.scratch_bytes));
}

INSTANTIATE_TEST_SUITE_P(Metrics, CellSearch, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

}  // namespace
}  // namespace mpishards::kernels::cpu

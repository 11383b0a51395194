#include "kernels/cpu/row_cells.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cells_support.hpp"
#include "kernels/cpu/row_plane.hpp"

namespace mpishards::kernels::cpu {
namespace {

class Cells : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  }

  struct Reached {
    std::int64_t wrong = 0;  // cells left out that hold the best row there is at the cut
    double share = 0;        // of the cells that are needed by the best row's cut
  };

  /// Every query's cut is set to the best row of each cell in turn: the cell must be needed.
  static Reached reach(const std::vector<float>& base, const std::vector<float>& queries,
                       float radius_factor = 1) {
    const Isa& isa = *plane_isa();
    RowCells cells;
    cells.build(view_of(base, kDim), GetParam(), isa, 2);
    EXPECT_FALSE(cells.is_empty());
    if (cells.is_empty()) return {};
    RowPlane plane;
    plane.build(view_of(base, kDim), GetParam(), std::nullopt, cells, isa, 2);
    std::vector<float> radii(plane.radii().begin(), plane.radii().end());
    for (float& radius : radii) radius *= radius_factor;
    const MatrixView<const float> rows = queries_of(queries, kDim);
    CellReach reach;
    reach.reserve(rows.rows, cells.count(), kDim);
    reach.begin(cells, radii, GetParam(), isa, rows);
    Reached found;
    std::int64_t seen = 0;
    for (std::int64_t q = 0; q < rows.rows; ++q) {
      double best = -std::numeric_limits<double>::infinity();
      for (std::int64_t cell = 0; cell < cells.count(); ++cell) {
        long double score = -std::numeric_limits<long double>::infinity();
        for (const PlaneBlock& block : plane.blocks_of(cell))
          for (std::int64_t place = block.begin; place < block.end; ++place) {
            ++seen;
            const float* const row = base.data() + plane.row_at(place) * kDim;
            score = std::max(score, exact_score(rows.row(q), row, kDim, GetParam()));
          }
        if (plane.blocks_of(cell).empty()) continue;
        best = std::max(best, static_cast<double>(score));
        // A double just below: the cut of a row that is as good.
        reach.set_cut(q, std::nextafter(static_cast<double>(score), -1e300));
        found.wrong += reach.is_needed(cell, q, q + 1) ? 0 : 1;
      }
      reach.set_cut(q, best);
      for (std::int64_t cell = 0; cell < cells.count(); ++cell)
        found.share += reach.is_needed(cell, q, q + 1) ? 1.0 : 0.0;
    }
    EXPECT_EQ(seen, rows.rows * plane.rows()) << "each row is in one cell";
    found.share /= static_cast<double>(rows.rows * cells.count());
    return found;
  }
};

TEST_P(Cells, are_never_left_out_when_they_hold_a_row_at_the_cut) {
  auto queries = clusters(20, 2);
  queries.insert(queries.end(), kDim, 0.0f);
  queries.insert(queries.end(), kDim, 1e6f);
  const Reached near = reach(clusters(kRows, 1), queries);
  EXPECT_EQ(near.wrong, 0);
  EXPECT_LT(near.share, 0.3);
}

TEST_P(Cells, hold_far_from_the_origin_and_for_tiny_values) {
  if (GetParam() == Metric::l2) {
    EXPECT_EQ(reach(clusters(kRows, 1, 0.4f, 1000), clusters(20, 2, 0.4f, 1000)).wrong, 0);
  }
  auto base = clusters(kRows, 1);
  auto queries = clusters(20, 2);
  for (float& value : base) value *= 1e-10f;
  for (float& value : queries) value *= 1e-10f;
  EXPECT_EQ(reach(base, queries).wrong, 0);
}

TEST_P(Cells, hold_where_squares_pass_what_float32_holds) {
  auto base = clusters(kRows, 1);
  for (float& value : base) value *= 1e15f;
  auto queries = clusters(20, 2);
  for (std::size_t i = 0; i < queries.size(); ++i)
    queries[i] *= std::sqrt(3.4e38f) / (10 + static_cast<float>(i % 7)) / 1.5f;
  EXPECT_EQ(reach(base, queries).wrong, 0);
}

TEST_P(Cells, need_their_whole_radius) {
  EXPECT_GT(reach(clusters(kRows, 1), clusters(20, 2), 0.5f).wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(Metrics, Cells, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(CellMemory, is_no_more_than_planned) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  constexpr std::int64_t kLong = 64;
  const auto base = clusters(kRows, 1, 0.4f, 0, kLong);
  for (const std::int64_t nq : {100, 3000}) {
    cpu::FlatOverrides overrides;
    overrides.queries_worth_cell = 0;
    const auto index = make_flat(Metric::l2, {2, std::string(plane_isa()->name), 0}, overrides);
    index->build(view_of(base, kLong), {});
    const auto queries = clusters(nq, 2, 0.4f, 0, kLong, 4);
    TopK out(nq, 10, Metric::l2);
    index->search(queries_of(queries, kLong), {}, out);
    EXPECT_LT(index->counters().distances, nq * kRows / 2) << "the rows were divided";
    const CpuSearchPlan plan =
        plan_cpu_search({kRows, nq, kLong, 10, DType::f32}, {.threads = 2, .isa = plane_isa()->name});
    EXPECT_LE(index->bytes(), static_cast<std::size_t>(plan.index_bytes + plan.scratch_bytes)) << nq;
  }
}

}  // namespace
}  // namespace mpishards::kernels::cpu

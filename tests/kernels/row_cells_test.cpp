#include "kernels/cpu/row_cells.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "flat_support.hpp"
#include "kernels/cpu/row_plane.hpp"
#include "support/exact_vectors.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 40000;
constexpr std::int64_t kDim = 12;
constexpr std::int64_t kClusters = 40;

const Isa* plane_isa() {
  for (const Isa& isa : isa_registry())
    if (isa.plane != nullptr && isa.is_supported()) return &isa;
  return nullptr;
}

/// Normal vectors around normal centers, moved away from the origin. @param used  of the centers
std::vector<float> clusters(std::int64_t rows, unsigned seed, float width = 0.7f, float mean = 0,
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
    EXPECT_EQ(reach(clusters(kRows, 1, 0.7f, 1000), clusters(20, 2, 0.7f, 1000)).wrong, 0);
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

class CellSearch : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  }

  static Settings divided(int threads = 2) {
    Settings settings{threads, std::string(plane_isa()->name), {}};
    settings.overrides.queries_worth_cell = 0;
    return settings;
  }

  /// @return the part of all pairs that was screened
  static double expect_exact_answer(TypedView base, const std::vector<float>& floats,
                                    const std::vector<float>& queries, std::int64_t k,
                                    const Settings& settings, const std::string& what) {
    SearchCounters counters;
    const TopK found = search_typed(base, queries, k, GetParam(), settings, {}, {}, &counters);
    expect_answer(found, oracle::search(floats, queries, base.cols, k, measure_of(GetParam())), what);
    EXPECT_EQ(counters.certified + counters.widened, found.nq());
    return static_cast<double>(counters.distances) / static_cast<double>(found.nq() * base.rows);
  }
};

TEST_P(CellSearch, equals_the_oracle_and_passes_over_most_cells) {
  const auto base = clusters(kRows, 1);
  auto queries = clusters(100, 2, 0.7f, 0, kDim, 4);
  queries.resize(queries.size() + kDim, 0.0f);
  for (const auto type : {PlaneType::bf16, PlaneType::s8})
    for (const std::int64_t k : {1, 10, 1500}) {
      Settings settings = divided(type == PlaneType::bf16 ? 1 : 2);  // threads: two share the base
      settings.overrides.plane = type;
      const double screened =
          expect_exact_answer(view_of(base, kDim), base, queries, k, settings, "k " + std::to_string(k));
      // More neighbors than a cluster has rows lie in other clusters.
      if (k < kRows / kClusters) {
        EXPECT_LT(screened, 0.5) << "k " << k;
      }
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
  const auto queries = make(150, 4);
  std::vector<std::byte> bytes(base.size());
  std::ranges::transform(base, bytes.begin(), [](float value) { return static_cast<std::byte>(value); });
  const double screened =
      expect_exact_answer({DType::u8, bytes.data(), kRows, kDim}, base, queries, 20, divided(), "bytes");
  EXPECT_LT(screened, 0.5);
}

TEST_P(CellSearch, is_exact_where_bounds_prove_too_little) {
  // Distances inside a cluster differ far below what a plane resolves.
  const auto base = clusters(kRows, 1, 1e-5f);
  const auto queries = clusters(70, 2, 1e-5f);
  expect_exact_answer(view_of(base, kDim), base, queries, 10, divided(), "tiny clusters");
  // All rows are one of a few.
  auto repeated = base;
  for (std::size_t i = 0; i < repeated.size(); ++i) repeated[i] = base[i % (kClusters * kDim)];
  expect_exact_answer(view_of(repeated, kDim), repeated, queries, 10, divided(), "duplicates");
}

TEST_P(CellSearch, is_exact_near_the_end_of_float32) {
  auto base = clusters(kRows, 1);
  const auto queries = clusters(150, 2);
  base[24 * kDim] = 1e20f;  // in the sample
  expect_exact_answer(view_of(base, kDim), base, queries, 10, divided(), "one huge row");
  base = clusters(kRows, 1);
  for (float& value : base) value *= 1e15f;
  auto far = queries;
  // Squared distances on both sides of the largest float.
  for (std::size_t i = 0; i < far.size(); ++i) {
    const auto steps = static_cast<float>(i / kDim);
    far[i] = far[i] * 1e15f + (i % kDim == 0 ? 1.8446e19f * (1 + (steps - 75) * 2e-4f) : 0.0f);
  }
  expect_exact_answer(view_of(base, kDim), base, far, 10, divided(), "far queries");
  for (float& value : base) value *= 1e15f;
  expect_exact_answer(view_of(base, kDim), base, queries, 10, divided(), "huge rows");
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
  search(base, 70, {});
  const auto distances = search(base, 150, {});
  search(base, 1, {});
  search(base, 10, {});
  std::vector<float> bound(150);
  for (std::size_t q = 0; q < bound.size(); ++q) bound[q] = distances[q * 10 + 9];
  search(base, 150, bound);
  const auto others = normal_vectors(kRows / 4, kDim, 3);
  index->build(view_of(others, kDim), {});
  search(others, 70, {});
  const CpuSearchPlan plan =
      plan_cpu_search({kRows, 150, kDim, 10, DType::f32}, {.threads = 2, .isa = plane_isa()->name});
  EXPECT_LE(index->bytes(), static_cast<std::size_t>(plan.index_bytes + plan.scratch_bytes));
}

TEST_P(CellSearch, leaves_data_without_clusters_in_one_piece) {
  const auto base = normal_vectors(kRows, 40, 1);
  const auto queries = normal_vectors(70, 40, 2);
  EXPECT_EQ(expect_exact_answer(view_of(base, 40), base, queries, 10, divided(), "normal"), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Metrics, CellSearch, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(CellMemory, is_no_more_than_planned) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  constexpr std::int64_t kLong = 64;
  const auto base = clusters(kRows, 1, 0.7f, 0, kLong);
  for (const std::int64_t nq : {100, 3000}) {
    cpu::FlatOverrides overrides;
    overrides.queries_worth_cell = 0;
    const auto index = make_flat(Metric::l2, {2, std::string(plane_isa()->name), 0}, overrides);
    index->build(view_of(base, kLong), {});
    const auto queries = clusters(nq, 2, 0.7f, 0, kLong, 4);
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

#include "kernels/cpu/certificate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "flat_support.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/row_norms.hpp"

namespace mpishards::kernels::cpu {
namespace {

/// Keeps every score of a screen.
struct AllScores final : CandidateSink {
  std::int64_t rows = 0;
  std::vector<float> scores;
  void add(std::int64_t query, std::int64_t row, float score) override {
    scores[static_cast<std::size_t>(query * rows + row)] = score;
  }
};

struct Checked {
  double worst_share = 0;  // largest error as a share of the bound
  std::int64_t certified = 0;
};

Checked check_bound(const Isa& isa, const std::vector<float>& base, const std::vector<float>& queries,
                    std::int64_t d, Metric metric) {
  RowNorms norms;
  norms.build(view_of(base, d), metric, isa, 1);
  const MatrixView<const float> rows{base.data(), static_cast<std::int64_t>(base.size()) / d, d};
  const MatrixView<const float> query_rows = queries_of(queries, d);
  const std::vector<float> thresholds(static_cast<std::size_t>(query_rows.rows),
                                      -std::numeric_limits<float>::infinity());
  Matrix packed(DType::f32, 1, isa.screen.packed_query_floats(query_rows.rows, d));
  Matrix scratch(DType::f32, 1, isa.screen.scratch_floats(query_rows.rows, rows.rows, d));
  isa.screen.pack_queries(query_rows, packed.as<float>().data);
  AllScores all;
  all.rows = rows.rows;
  all.scores.assign(static_cast<std::size_t>(query_rows.rows * rows.rows), std::nanf(""));
  isa.screen.run({query_rows, packed.as<float>().data, rows, norms.scale(0), norms.bias(0), thresholds.data(),
                  scratch.as<float>().data},
                 all);
  Checked checked;
  const RowMaxima maxima = norms.maxima(0, rows.rows);
  for (std::int64_t q = 0; q < query_rows.rows; ++q) {
    const double squares = isa.dot_product(query_rows.row(q), query_rows.row(q), d);
    const double bound = Certificate(metric, d, squares, maxima.norm).error(maxima);
    if (!std::isfinite(bound)) continue;
    ++checked.certified;
    for (std::int64_t row = 0; row < rows.rows; ++row) {
      const long double exact = exact_score(query_rows.row(q), rows.row(row), d, metric);
      const float score = all.scores[static_cast<std::size_t>(q * rows.rows + row)];
      const auto error = static_cast<double>(std::abs(exact - static_cast<long double>(score)));
      checked.worst_share =
          std::max(checked.worst_share, bound > 0 ? error / bound : (error > 0 ? 2.0 : 0.0));
    }
  }
  return checked;
}

class Bound : public testing::TestWithParam<Metric> {
 protected:
  void expect_holds(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                    bool expect_certified = true) {
    for (const Isa& isa : isa_registry()) {
      if (!isa.is_supported()) continue;
      const Checked checked = check_bound(isa, base, queries, d, GetParam());
      EXPECT_LE(checked.worst_share, 1.0) << isa.name << " d " << d;
      EXPECT_EQ(checked.certified > 0, expect_certified) << isa.name << " d " << d;
    }
  }
};

TEST_P(Bound, holds_on_random_vectors) {
  for (const std::int64_t d : {1, 2, 7, 64, 333, 2048})
    expect_holds(normal_vectors(70, d, 1), normal_vectors(11, d, 2), d);
}

TEST_P(Bound, holds_where_all_terms_are_positive) {
  for (const std::int64_t d : {3, 100, 5000})
    for (const float range : {0.5f, 4.0f, 12.0f})
      expect_holds(positive_vectors(40, d, 3, range), positive_vectors(8, d, 4, range), d);
}

TEST_P(Bound, holds_far_from_the_origin) {
  expect_holds(normal_vectors(50, 128, 5, 1e4f), normal_vectors(8, 128, 6, 1e4f), 128);
}

TEST_P(Bound, holds_where_products_underflow) {
  expect_holds(normal_vectors(50, 100, 7, 0, 1e-22f), normal_vectors(8, 100, 8, 0, 1e-22f), 100);
  expect_holds(normal_vectors(50, 100, 7, 0, 1.0f), normal_vectors(8, 100, 8, 0, 1e-44f), 100);
}

TEST_P(Bound, claims_nothing_where_float32_overflows) {
  expect_holds(normal_vectors(20, 16, 9, 0, 1e30f), normal_vectors(5, 16, 10, 0, 1e30f), 16, false);
}

INSTANTIATE_TEST_SUITE_P(Metrics, Bound, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

// From 1 on, each further product is just below half a unit in the last place, and is lost when summed one by
// one.
TEST(BoundIsNotIdle, half_of_it_is_violated) {
  if (!has_isa("avx2")) GTEST_SKIP() << "made for the order of summation of the AVX2 kernel";
  std::vector<float> worst(201, 0.999f * 0x1p-12f);
  worst[0] = 1;
  const Checked checked = check_bound(find_isa("avx2"), worst, worst, 201, Metric::ip);
  EXPECT_GT(checked.worst_share, 0.5);
  EXPECT_LE(checked.worst_share, 1.0);
}

TEST(Cut, keeps_rows_whose_distance_rounds_to_the_same_float) {
  const std::int64_t d = 1;
  const Certificate certificate(Metric::l2, d, 4.0, 10.0);
  for (const float distance : {0.0f, 1e-45f, 1e-30f, 0.25f, 1.0f, 3.0e7f}) {
    const double same_score = (4.0 - static_cast<double>(distance) * (1 + 0x1p-24)) / 2;
    EXPECT_LE(certificate.cut().from_distance(distance), same_score) << distance;
    EXPECT_GT(certificate.cut().from_distance(distance),
              (4.0 - static_cast<double>(distance) * (1 + 0x1p-19)) / 2 - 1e-12)
        << distance;
  }
}

TEST(Cut, excludes_nothing_once_distances_are_infinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Certificate(Metric::l2, 4, 1.0, 1.0).cut().from_distance(infinity), -infinity);
  EXPECT_EQ(Certificate(Metric::ip, 4, 1.0, 1.0).cut().from_distance(-infinity), -infinity);
  EXPECT_EQ(Certificate(Metric::cosine, 4, 1.0, 1.0).cut().from_distance(-infinity), -infinity);
  EXPECT_LT(Certificate(Metric::ip, 4, 1.0, 1.0).cut().from_distance(infinity),
            std::numeric_limits<float>::max());
}

TEST(Rounding, goes_outward) {
  for (const double value : {0.1, -0.1, 1.0, 1e-46, -1e-46, 1e300, -1e300}) {
    EXPECT_LE(static_cast<double>(round_down(value)), value);
    EXPECT_GE(static_cast<double>(round_up(value)), value);
  }
}

}  // namespace
}  // namespace mpishards::kernels::cpu

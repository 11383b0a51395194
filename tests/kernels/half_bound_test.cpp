#include "kernels/half_bound.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "flat_support.hpp"

namespace mpishards::kernels::cuda {
namespace {

/// A vector in the plane, as the kernels pack it.
struct Packed {
  std::vector<float> values;  // of the plane's bits
  RowBound bound;
  int exponent = 0;
};

Packed pack(const float* vector, std::int64_t d, int exponent, bool is_unit) {
  Packed packed{{}, {}, exponent};
  double squares = 0;
  for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(vector[i]) * vector[i];
  const double scale = !is_unit ? 1.0 : squares > 0 ? 1 / std::sqrt(squares) : 0.0;
  double plane_squares = 0;
  double residual_squares = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    const PlaneValue value = plane_value(std::ldexp(vector[i] * scale, exponent));
    packed.values.push_back(half_to_float(value.bits));
    plane_squares += value.value * value.value;
    residual_squares += value.residual * value.residual;
  }
  packed.bound = row_bound(plane_squares, residual_squares, d, is_unit ? unit_row_error(d) : 0.0);
  return packed;
}

float max_abs(const std::vector<float>& values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

/// One float32 sum of products, each addition truncated: the worst that tensor cores do.
float truncated_sum(const Packed& q, const Packed& x) {
  float sum = 0;
  for (std::size_t i = 0; i < q.values.size(); ++i) {
    const double exact = sum + static_cast<double>(q.values[i]) * x.values[i];
    sum = static_cast<float>(exact);
    if (std::abs(sum) > std::abs(exact)) sum = std::nextafterf(sum, 0);
  }
  return sum;
}

struct Checked {
  double worst_share = 0;  // largest error as a share of the bound
  int certified = 0;
};

Checked check_bound(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                    Metric metric) {
  Checked checked;
  const int base_exponent = plane_exponent(metric == Metric::cosine ? 1.0f : max_abs(base));
  const auto rows = static_cast<std::int64_t>(base.size()) / d;
  for (std::int64_t q = 0; q < static_cast<std::int64_t>(queries.size()) / d; ++q) {
    const float* const query = queries.data() + q * d;
    const Packed packed_query = pack(query, d, plane_exponent(max_abs({query, query + d})), false);
    const QueryBound bound = query_bound(metric, packed_query.bound, packed_query.exponent, base_exponent);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* const row = base.data() + r * d;
      const Packed packed_row = pack(row, d, base_exponent, metric == Metric::cosine);
      double squares = 0;
      for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(row[i]) * row[i];
      const float bias =
          metric == Metric::l2 ? static_cast<float>(-std::ldexp(squares, 2 * base_exponent) / 2) : 0.0f;
      const float score = std::fma(truncated_sum(packed_query, packed_row), bound.multiplier, bias);
      const double error = half_screen_error(metric, d, bound, packed_row.bound);
      if (error == std::numeric_limits<double>::infinity()) continue;
      ++checked.certified;
      const long double exact = std::ldexp(exact_score(query, row, d, metric), bound.score_exponent);
      const auto share = static_cast<double>(std::abs(score - exact) / error);
      checked.worst_share = std::max(checked.worst_share, share);
      EXPECT_LE(share, 1.0) << to_string(metric) << " d " << d << " query " << q << " row " << r;
      EXPECT_LE(lower_score(score, error), exact);
      EXPECT_GE(upper_score(score, error), exact);
    }
  }
  return checked;
}

class HalfBound : public testing::TestWithParam<Metric> {};

TEST_P(HalfBound, holds_on_random_vectors) {
  for (const std::int64_t d : {1, 3, 16, 128, 1000}) {
    const Checked checked = check_bound(normal_vectors(40, d, 1), normal_vectors(10, d, 2), d, GetParam());
    EXPECT_EQ(checked.certified, 400);
  }
}

TEST_P(HalfBound, holds_far_from_the_origin_and_near_it) {
  for (const float mean : {0.0f, 1.0f, 1000.0f})
    for (const float deviation : {1e-6f, 1e-2f, 100.0f})
      check_bound(normal_vectors(30, 64, 3, mean, deviation), normal_vectors(8, 64, 4, mean, deviation), 64,
                  GetParam());
}

TEST_P(HalfBound, holds_whatever_the_magnitudes) {
  for (const float rows : {1e-42f, 1e-20f, 1.0f, 1e37f})
    for (const float queries : {1e-42f, 1e-20f, 1.0f, 1e37f})
      check_bound(normal_vectors(20, 12, 5, 0, rows), normal_vectors(5, 12, 6, 0, queries), 12, GetParam());
  auto mixed = normal_vectors(40, 12, 7);
  for (std::size_t i = 0; i < mixed.size(); ++i) mixed[i] *= std::ldexp(1.0f, static_cast<int>(i % 120) - 60);
  check_bound(mixed, mixed, 12, GetParam());
}

/// Values half way between two of the plane's: their residuals are the largest there are, and all of one
/// sign.
std::vector<float> worst_for_the_plane(std::int64_t rows, std::int64_t d) {
  return std::vector<float>(static_cast<std::size_t>(rows * d), 1 + 0x1p-11f - 0x1p-23f);
}

TEST_P(HalfBound, is_no_more_than_twice_the_error_of_the_worst_vectors) {
  const Checked checked = check_bound(worst_for_the_plane(2, 64), worst_for_the_plane(2, 64), 64, GetParam());
  EXPECT_GT(checked.worst_share, 0.5);
}

TEST_P(HalfBound, holds_for_values_that_cancel) {
  const std::int64_t d = 256;
  auto base = normal_vectors(20, d, 8, 0, 100);
  auto queries = normal_vectors(5, d, 9, 0, 100);
  for (std::size_t i = 1; i < base.size(); i += 2) base[i] = -base[i - 1];
  for (std::size_t i = 1; i < queries.size(); i += 2) queries[i] = queries[i - 1];
  check_bound(base, queries, d, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Metrics, HalfBound, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(HalfPlane, keeps_the_largest_value_in_range) {
  for (const float value : {1e-45f, 1e-38f, 0.75f, 1.0f, 65504.0f, 3.4e38f}) {
    const double scaled = std::ldexp(static_cast<double>(value), plane_exponent(value));
    EXPECT_GE(scaled, 0x1p13) << value;
    EXPECT_LT(scaled, 0x1p14) << value;
  }
  EXPECT_EQ(plane_exponent(0.0f), 0);
}

TEST(HalfPlane, holds_8_bit_values_as_they_are) {
  for (int value = -255; value <= 255; ++value)
    EXPECT_EQ(plane_value(std::ldexp(static_cast<double>(value), plane_exponent(255.0f))).residual, 0.0);
}

TEST(HalfBound, proves_nothing_where_scales_are_too_far_apart) {
  const RowBound row{1.0f, 0.0f};
  const QueryBound query = query_bound(Metric::l2, row, 120, -100);
  EXPECT_EQ(half_screen_error(Metric::l2, 8, query, row), std::numeric_limits<double>::infinity());
  EXPECT_LT(half_screen_error(Metric::ip, 8, query_bound(Metric::ip, row, 120, -100), row), 1.0);
}

}  // namespace
}  // namespace mpishards::kernels::cuda

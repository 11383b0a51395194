#include "rank/plain_distance.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace mpishards::rank {
namespace {

struct Sums {
  long double squares = 0;  // of differences
  long double product = 0;
  long double query = 0;
  long double row = 0;
};

Sums sums_of(const std::vector<float>& query, const std::vector<float>& row) {
  Sums sums;
  for (std::size_t i = 0; i < query.size(); ++i) {
    const long double q = query[i];
    const long double x = row[i];
    sums.squares += (q - x) * (q - x);
    sums.product += q * x;
    sums.query += q * q;
    sums.row += x * x;
  }
  return sums;
}

TEST(PlainDistance, is_the_sum_over_all_values_for_every_length) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const std::size_t d : {1, 2, 7, 8, 9, 15, 16, 17, 100, 784}) {
    std::vector<float> query(d);
    std::vector<float> row(d);
    for (float& value : query) value = normal(random);
    for (float& value : row) value = normal(random);
    const Sums sums = sums_of(query, row);
    const auto length = static_cast<std::int64_t>(d);
    const auto close = static_cast<double>(d) * 1e-15;
    EXPECT_NEAR(distance_of(Metric::l2, query.data(), row.data(), length), static_cast<double>(sums.squares),
                close * static_cast<double>(sums.squares));
    EXPECT_NEAR(distance_of(Metric::ip, query.data(), row.data(), length), static_cast<double>(sums.product),
                close * static_cast<double>(std::sqrt(sums.query * sums.row)));
    EXPECT_NEAR(distance_of(Metric::cosine, query.data(), row.data(), length),
                static_cast<double>(sums.product / std::sqrt(sums.query * sums.row)), close);
  }
}

TEST(PlainDistance, squares_are_not_rounded_to_float) {
  const std::vector<float> query{0x1p60F, 1, 0, 0, 0, 0, 0, 0, 3};
  const std::vector<float> row{0x1p60F, 0x1p-30F, 0, 0, 0, 0, 0, 0, 0x1p-20F};
  const double first = 1 - 0x1p-30;
  const double last = 3 - 0x1p-20;
  EXPECT_EQ(distance_of(Metric::l2, query.data(), row.data(), 9), last * last + first * first);
}

TEST(PlainDistance, cosine_of_a_row_of_zeros_is_zero) {
  const std::vector<float> zeros(9);
  const std::vector<float> ones(9, 1.0F);
  EXPECT_EQ(distance_of(Metric::cosine, ones.data(), zeros.data(), 9), 0.0);
}

}  // namespace
}  // namespace mpishards::rank

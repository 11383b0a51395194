#include "core/half.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace mpishards {
namespace {

/// A 16-bit format by its definition: sign, exponent of `exponent_bits`, fraction of the rest.
struct Format {
  int exponent_bits;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);

  int fraction_bits() const { return 15 - exponent_bits; }
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int largest_exponent() const { return (1 << exponent_bits) - 1; }
  std::uint16_t infinity() const { return static_cast<std::uint16_t>(largest_exponent() << fraction_bits()); }

  /// Value of finite positive bits; those of infinity give the power of two that would come next.
  double value(unsigned bits) const {
    const int exponent = static_cast<int>(bits >> fraction_bits());
    const int fraction = static_cast<int>(bits & ((1u << fraction_bits()) - 1));
    const int whole = exponent == 0 ? fraction : fraction + (1 << fraction_bits());
    return std::ldexp(whole, std::max(exponent, 1) - bias() - fraction_bits());
  }

  /// Nearest representable magnitude by search over all of them, ties to the even bits.
  std::uint16_t nearest(double magnitude) const {
    unsigned low = 0;
    unsigned high = infinity();
    if (magnitude >= value(high)) return infinity();
    while (high - low > 1) {
      const unsigned middle = (low + high) / 2;
      (value(middle) <= magnitude ? low : high) = middle;
    }
    const double below = magnitude - value(low);
    const double above = value(high) - magnitude;
    if (below == above) return static_cast<std::uint16_t>(low % 2 == 0 ? low : high);
    return static_cast<std::uint16_t>(below < above ? low : high);
  }
};

class SixteenBits : public ::testing::TestWithParam<Format> {
 protected:
  void expect_rounds(float value) const {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const auto expected = static_cast<std::uint16_t>(sign | GetParam().nearest(std::fabs(double{value})));
    ASSERT_EQ(GetParam().narrow(value), expected) << value << " = " << std::bit_cast<std::uint32_t>(value);
  }
};

TEST_P(SixteenBits, all_finite_values_widen_exactly_and_come_back) {
  for (unsigned bits = 0; bits < GetParam().infinity(); ++bits) {
    const auto positive = static_cast<std::uint16_t>(bits);
    const auto negative = static_cast<std::uint16_t>(bits | 0x8000);
    ASSERT_EQ(GetParam().widen(positive), GetParam().value(bits)) << bits;
    ASSERT_EQ(GetParam().widen(negative), -GetParam().value(bits)) << bits;
    ASSERT_TRUE(std::signbit(GetParam().widen(negative)));
    ASSERT_EQ(GetParam().narrow(GetParam().widen(positive)), positive);
    ASSERT_EQ(GetParam().narrow(GetParam().widen(negative)), negative);
  }
}

TEST_P(SixteenBits, rounds_to_nearest_even_around_every_midpoint) {
  for (unsigned bits = 0; bits < GetParam().infinity(); ++bits) {
    // Exact in float32 for both formats: one more bit than the format has. The largest one may be beyond
    // float32.
    const double midpoint = (GetParam().value(bits) + GetParam().value(bits + 1)) / 2;
    if (midpoint > std::numeric_limits<float>::max()) continue;
    const auto middle = static_cast<float>(midpoint);
    ASSERT_EQ(double{middle}, midpoint);
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, HUGE_VALF)}) {
      expect_rounds(value);
      expect_rounds(-value);
    }
  }
}

TEST_P(SixteenBits, rounds_random_float_bits) {
  std::mt19937 random(3);
  for (int i = 0; i < 300000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value)) expect_rounds(value);
  }
}

TEST_P(SixteenBits, keeps_infinities_and_nan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(GetParam().widen(GetParam().infinity()), infinity);
  EXPECT_EQ(GetParam().narrow(infinity), GetParam().infinity());
  EXPECT_EQ(GetParam().narrow(-infinity), GetParam().infinity() | 0x8000);
  EXPECT_EQ(GetParam().narrow(std::numeric_limits<float>::max()), GetParam().infinity());
  for (unsigned bits = GetParam().infinity() + 1u; bits < 0x8000; ++bits) {
    const float widened = GetParam().widen(static_cast<std::uint16_t>(bits));
    ASSERT_TRUE(std::isnan(widened)) << bits;
    ASSERT_TRUE(std::isnan(GetParam().widen(GetParam().narrow(widened)))) << bits;
  }
  // A NaN whose only fraction bits are those that the format drops stays NaN.
  const auto low_nan = std::bit_cast<float>(0x7f800001u);
  EXPECT_TRUE(std::isnan(GetParam().widen(GetParam().narrow(low_nan))));
}

INSTANTIATE_TEST_SUITE_P(Half, SixteenBits, ::testing::Values(Format{5, half_to_float, float_to_half}));
INSTANTIATE_TEST_SUITE_P(Bfloat16, SixteenBits,
                         ::testing::Values(Format{8, bfloat16_to_float, float_to_bfloat16}));

}  // namespace
}  // namespace mpishards

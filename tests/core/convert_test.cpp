#include "core/convert.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "core/error.hpp"

namespace mpishards {
namespace {

constexpr DType kAll[] = {DType::f32, DType::f16, DType::bf16, DType::f64,
                          DType::u8,  DType::i8,  DType::i32,  DType::i64};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// 0, 1, 2, 64, 96 in each type, written as literal bits.
std::vector<std::byte> small_numbers(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return bytes_of<float>({0, 1, 2, 64, 96});
    case DType::f16:
      return bytes_of<std::uint16_t>({0x0000, 0x3c00, 0x4000, 0x5400, 0x5600});
    case DType::bf16:
      return bytes_of<std::uint16_t>({0x0000, 0x3f80, 0x4000, 0x4280, 0x42c0});
    case DType::f64:
      return bytes_of<double>({0, 1, 2, 64, 96});
    case DType::u8:
      return bytes_of<std::uint8_t>({0, 1, 2, 64, 96});
    case DType::i8:
      return bytes_of<std::int8_t>({0, 1, 2, 64, 96});
    case DType::i32:
      return bytes_of<std::int32_t>({0, 1, 2, 64, 96});
    case DType::i64:
      return bytes_of<std::int64_t>({0, 1, 2, 64, 96});
  }
  return {};
}

template <class To, class From>
std::vector<To> converted(DType from, const std::vector<From>& values, DType to) {
  std::vector<To> out(values.size());
  convert_elements(from, bytes_of(values).data(), to, reinterpret_cast<std::byte*>(out.data()),
                   static_cast<std::int64_t>(values.size()));
  return out;
}

TEST(Convert, every_pair_of_types_agrees_on_small_numbers) {
  for (const DType from : kAll)
    for (const DType to : kAll) {
      std::vector<std::byte> out(5 * size_bytes(to));
      convert_elements(from, small_numbers(from).data(), to, out.data(), 5);
      EXPECT_EQ(out, small_numbers(to)) << to_string(from) << " to " << to_string(to);
    }
}

TEST(Convert, to_float32_widens_every_vector_type) {
  const std::vector<float> expected = {0, 1, 2, 64, 96};
  for (const DType from : kAll) {
    std::vector<float> out(5, -1.0f);
    if (from == DType::i32 || from == DType::i64) {
      EXPECT_THROW(to_float32(from, small_numbers(from).data(), 5, out.data()), Error);
      continue;
    }
    to_float32(from, small_numbers(from).data(), 5, out.data());
    EXPECT_EQ(out, expected) << to_string(from);
  }
}

TEST(Convert, to_float32_takes_all_values_of_the_8_bit_types) {
  for (int i = 0; i < 256; ++i) {
    const auto byte = static_cast<std::byte>(i);
    float value = -1;
    to_float32(DType::u8, &byte, 1, &value);
    EXPECT_EQ(value, static_cast<float>(i));
    to_float32(DType::i8, &byte, 1, &value);
    EXPECT_EQ(value, static_cast<float>(i < 128 ? i : i - 256));
  }
}

/// The value as IEEE 754 defines it, by powers of two.
float value_of_half(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31u);
  const int fraction = static_cast<int>(bits & 1023u);
  const float sign = bits >> 15 != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return std::copysign(fraction == 0 ? HUGE_VALF : std::nanf(""), sign);
  if (exponent == 0) return std::copysign(std::ldexp(static_cast<float>(fraction), -24), sign);
  return std::copysign(std::ldexp(static_cast<float>(1024 + fraction), exponent - 25), sign);
}

TEST(Convert, to_float32_takes_all_halves_in_pieces_of_any_length) {
  constexpr std::int64_t kCount = 1 << 16;
  std::vector<std::byte> bytes(1 + 2 * kCount);  // one more, so that halves are unaligned
  for (std::int64_t half = 0; half < kCount; ++half) {
    const auto bits = static_cast<std::uint16_t>(half);
    std::memcpy(bytes.data() + 1 + 2 * half, &bits, sizeof(bits));
  }
  for (const std::int64_t length :
       {std::int64_t{1}, std::int64_t{7}, std::int64_t{8}, std::int64_t{29}, kCount}) {
    std::vector<float> floats(static_cast<std::size_t>(kCount) + 1, -1.0f);
    for (std::int64_t begin = 0; begin < kCount; begin += length)
      to_float32(DType::f16, bytes.data() + 1 + 2 * begin, std::min(length, kCount - begin),
                 floats.data() + begin);
    for (std::uint32_t bits = 0; bits < kCount; ++bits) {
      const float expected = value_of_half(bits);
      ASSERT_EQ(std::signbit(floats[bits]), std::signbit(expected)) << bits << " of " << length;
      ASSERT_EQ(std::isnan(floats[bits]), std::isnan(expected)) << bits << " of " << length;
      ASSERT_TRUE(std::isnan(expected) || floats[bits] == expected) << bits << " of " << length;
    }
    EXPECT_EQ(floats.back(), -1.0f);  // nothing is written beyond
  }
}

TEST(Convert, to_float32_narrows_doubles_to_nearest_even) {
  // 1 + 2^-24 is halfway between 1 and the next float; 1 + 3 * 2^-24 halfway to an even neighbour above.
  const std::vector<double> values = {1 + 0x1p-24, 1 + 3 * 0x1p-24, 1 + 0x1p-24 + 0x1p-50, 0.1};
  std::vector<float> out(values.size());
  to_float32(DType::f64, bytes_of(values).data(), 4, out.data());
  EXPECT_EQ(out, (std::vector<float>{1.0f, 1 + 0x1p-22f, 1 + 0x1p-23f, 0.1f}));
}

TEST(Convert, refuses_values_that_an_integer_type_lacks) {
  for (const double value : {-1.0, 256.0, 0.5, std::nan(""), HUGE_VAL, -HUGE_VAL})
    EXPECT_THROW((converted<std::uint8_t, double>(DType::f64, {value}, DType::u8)), Error) << value;
  for (const double value : {-129.0, 128.0})
    EXPECT_THROW((converted<std::int8_t, double>(DType::f64, {value}, DType::i8)), Error) << value;
  for (const double value : {2147483648.0, -2147483649.0})
    EXPECT_THROW((converted<std::int32_t, double>(DType::f64, {value}, DType::i32)), Error) << value;
  for (const double value : {0x1p63, -0x1.0000000000001p63})
    EXPECT_THROW((converted<std::int64_t, double>(DType::f64, {value}, DType::i64)), Error) << value;
}

TEST(Convert, takes_the_extremes_of_integer_types) {
  EXPECT_EQ((converted<std::uint8_t, double>(DType::f64, {255}, DType::u8)[0]), 255);
  EXPECT_EQ((converted<std::int8_t, double>(DType::f64, {-128}, DType::i8)[0]), -128);
  EXPECT_EQ((converted<std::int32_t, double>(DType::f64, {-2147483648.0}, DType::i32)[0]),
            std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ((converted<std::int64_t, double>(DType::f64, {-0x1p63}, DType::i64)[0]),
            std::numeric_limits<std::int64_t>::min());
  // Widening int32 is exact, whatever the way.
  EXPECT_EQ((converted<std::int64_t, std::int32_t>(DType::i32, {2147483647}, DType::i64)[0]), 2147483647);
}

TEST(Convert, same_type_is_a_copy_even_of_nan_and_large_ids) {
  const std::vector<std::int64_t> ids = {(std::int64_t{1} << 60) + 1, -7};
  EXPECT_EQ((converted<std::int64_t, std::int64_t>(DType::i64, ids, DType::i64)), ids);
  const std::vector<std::uint32_t> nan_bits = {0x7fa12345u};
  EXPECT_EQ((converted<std::uint32_t, std::uint32_t>(DType::f32, nan_bits, DType::f32)), nan_bits);
}

TEST(Convert, f64_to_half_rounds_once) {
  // Just above the midpoint of 1 and 1 + 2^-10; rounding to float32 first would land on the midpoint and go
  // down.
  const std::vector<double> values = {1 + 0x1p-11 + 0x1p-40};
  EXPECT_EQ((converted<std::uint16_t, double>(DType::f64, values, DType::f16)[0]), 0x3c01);
  const std::vector<double> bfloat_values = {1 + 0x1p-8 + 0x1p-40};
  EXPECT_EQ((converted<std::uint16_t, double>(DType::f64, bfloat_values, DType::bf16)[0]), 0x3f81);
}

TEST(Convert, f64_to_half_saturates_and_vanishes_as_float_does) {
  const std::vector<double> values = {1e300, -1e300, 65519.999999999, 65520, 1e-300, -1e-300, HUGE_VAL};
  EXPECT_EQ((converted<std::uint16_t, double>(DType::f64, values, DType::f16)),
            (std::vector<std::uint16_t>{0x7c00, 0xfc00, 0x7bff, 0x7c00, 0x0000, 0x8000, 0x7c00}));
}

TEST(Convert, reads_and_writes_unaligned_bytes) {
  std::vector<std::byte> in(1 + 2 * sizeof(double));
  const double values[] = {3, 5};
  std::memcpy(in.data() + 1, values, sizeof(values));
  std::vector<std::byte> out(1 + 2 * sizeof(float));
  convert_elements(DType::f64, in.data() + 1, DType::f32, out.data() + 1, 2);
  float back[2];
  std::memcpy(back, out.data() + 1, sizeof(back));
  EXPECT_EQ(back[0], 3.0f);
  EXPECT_EQ(back[1], 5.0f);
}

/// A 4 x 3 matrix of ones with one element replaced.
template <class T>
std::optional<std::int64_t> row_found(DType dtype, T one, std::size_t at, T value, std::int64_t from = 0) {
  std::vector<T> values(12, one);
  values[at] = value;
  return first_nonfinite_row({dtype, reinterpret_cast<const std::byte*>(values.data()), 4, 3}, from);
}

TEST(FirstNonfiniteRow, finds_nan_and_infinity_of_every_floating_type) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(row_found<float>(DType::f32, 1, 7, bad), 2);
    EXPECT_EQ(row_found<double>(DType::f64, 1, 11, double{bad}), 3);
  }
  for (const int bad : {0x7c00, 0xfc00, 0x7c01, 0xfe00})
    EXPECT_EQ(row_found<std::uint16_t>(DType::f16, 0x3c00, 3, static_cast<std::uint16_t>(bad)), 1);
  for (const int bad : {0x7f80, 0xff80, 0x7f81, 0xffc0})
    EXPECT_EQ(row_found<std::uint16_t>(DType::bf16, 0x3f80, 0, static_cast<std::uint16_t>(bad)), 0);
}

TEST(FirstNonfiniteRow, looks_at_every_place_of_long_rows) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t cols : {37, 64}) {
    std::vector<float> floats(static_cast<std::size_t>(cols), 1.0f);
    std::vector<double> doubles(floats.size(), 1.0);
    std::vector<std::uint16_t> halves(floats.size(), 0x3c00);
    for (std::size_t at = 0; at < floats.size(); ++at) {
      floats[at] = -infinity;
      doubles[at] = 1e39;
      halves[at] = 0xfc00;
      EXPECT_EQ(first_nonfinite_row({DType::f32, reinterpret_cast<const std::byte*>(floats.data()), 1, cols}),
                0);
      EXPECT_EQ(
          first_nonfinite_row({DType::f64, reinterpret_cast<const std::byte*>(doubles.data()), 1, cols}), 0);
      EXPECT_EQ(first_nonfinite_row({DType::f16, reinterpret_cast<const std::byte*>(halves.data()), 1, cols}),
                0);
      floats[at] = std::numeric_limits<float>::max();
      doubles[at] = -double{std::numeric_limits<float>::max()};
      halves[at] = 0x7bff;
    }
    EXPECT_FALSE(
        first_nonfinite_row({DType::f32, reinterpret_cast<const std::byte*>(floats.data()), 1, cols}));
    EXPECT_FALSE(
        first_nonfinite_row({DType::f64, reinterpret_cast<const std::byte*>(doubles.data()), 1, cols}));
    EXPECT_FALSE(
        first_nonfinite_row({DType::f16, reinterpret_cast<const std::byte*>(halves.data()), 1, cols}));
  }
}

TEST(FirstNonfiniteRow, takes_the_largest_finite_values) {
  EXPECT_FALSE(row_found<float>(DType::f32, 1, 5, -std::numeric_limits<float>::max()));
  EXPECT_FALSE(row_found<std::uint16_t>(DType::f16, 0, 5, 0x7bff));
  EXPECT_FALSE(row_found<std::uint16_t>(DType::bf16, 0, 5, 0xff7f));
  EXPECT_FALSE(row_found<double>(DType::f64, 1, 5, double{std::numeric_limits<float>::max()}));
}

TEST(FirstNonfiniteRow, finds_doubles_beyond_float32) {
  EXPECT_EQ(row_found<double>(DType::f64, 1, 5, 1e39), 1);
  EXPECT_EQ(row_found<double>(DType::f64, 1, 5, -1e39), 1);
}

TEST(FirstNonfiniteRow, starts_where_it_is_told) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(row_found<float>(DType::f32, 1, 3, nan, 1), 1);
  EXPECT_FALSE(row_found<float>(DType::f32, 1, 3, nan, 2));
}

TEST(FirstNonfiniteRow, does_not_look_at_integers) {
  EXPECT_FALSE(first_nonfinite_row({DType::u8, nullptr, 1 << 20, 128}));
  EXPECT_FALSE(first_nonfinite_row({DType::f32, nullptr, 0, 128}));
}

}  // namespace
}  // namespace mpishards

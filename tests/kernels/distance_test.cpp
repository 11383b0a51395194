#include "kernels/distance.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "flat_support.hpp"
#include "kernels/cpu/isa.hpp"

namespace mpishards::kernels {
namespace {

TEST(Distance, has_the_same_bits_in_every_instruction_set) {
  for (const cpu::Isa& isa : cpu::isa_registry()) {
    if (!isa.is_supported()) continue;
    for (std::int64_t d = 1; d < 70; ++d)
      for (const float scale : {1.0f, 1e-30f, 1e30f}) {
        const auto a = normal_vectors(1, d, static_cast<unsigned>(d), 0, scale);
        const auto b = normal_vectors(1, d, 1000u + static_cast<unsigned>(d), 0.5f, 1.0f);
        EXPECT_EQ(std::bit_cast<std::uint64_t>(isa.dot_product(a.data(), b.data(), d)),
                  std::bit_cast<std::uint64_t>(dot_product(a.data(), b.data(), d)))
            << isa.name << " d " << d;
        EXPECT_EQ(std::bit_cast<std::uint64_t>(isa.l2_squared(a.data(), b.data(), d)),
                  std::bit_cast<std::uint64_t>(l2_squared(a.data(), b.data(), d)))
            << isa.name << " d " << d;
      }
  }
}

TEST(Distance, to_several_rows_has_the_bits_of_each_alone) {
  for (const cpu::Isa& isa : cpu::isa_registry()) {
    if (!isa.is_supported()) continue;
    for (const std::int64_t d : {1, 7, 8, 9, 31, 64, 100})
      for (std::size_t count = 0; count <= 9; ++count) {
        const auto a = normal_vectors(1, d, 3);
        const auto b = normal_vectors(9, d, 4, 0.5f, 1.0f);
        std::vector<const float*> rows;
        for (std::size_t r = count; r-- > 0;) rows.push_back(b.data() + static_cast<std::int64_t>(r) * d);
        std::vector<double> products(count + 1, -1.0);
        std::vector<double> squares(count + 1, -1.0);
        isa.dot_products(a.data(), rows, d, products.data());
        isa.l2_squares(a.data(), rows, d, squares.data());
        for (std::size_t r = 0; r < count; ++r) {
          EXPECT_EQ(products[r], dot_product(a.data(), rows[r], d)) << isa.name << " d " << d;
          EXPECT_EQ(squares[r], l2_squared(a.data(), rows[r], d)) << isa.name << " d " << d;
        }
        EXPECT_EQ(products[count], -1) << "nothing is written behind the last row";
        EXPECT_EQ(squares[count], -1);
      }
  }
}

/// Sums of bytes beside the defined sums of the same values as floats.
template <class Byte>
void expect_sums_of_bytes(const cpu::Isa& isa, const cpu::Isa::ByteSums& sums, const std::vector<Byte>& a,
                          const std::vector<Byte>& b) {
  const auto d = static_cast<std::int64_t>(a.size());
  const std::vector<float> a_floats(a.begin(), a.end());
  const std::vector<float> b_floats(b.begin(), b.end());
  const auto* const a_bytes = reinterpret_cast<const std::byte*>(a.data());
  const auto* const b_bytes = reinterpret_cast<const std::byte*>(b.data());
  EXPECT_EQ(static_cast<double>(sums.dot_product(a_bytes, b_bytes, d)),
            dot_product(a_floats.data(), b_floats.data(), d))
      << isa.name << " d " << d;
  EXPECT_EQ(static_cast<double>(sums.l2_squared(a_bytes, b_bytes, d)),
            l2_squared(a_floats.data(), b_floats.data(), d))
      << isa.name << " d " << d;
}

TEST(Distance, of_bytes_is_the_defined_sum_in_every_instruction_set) {
  std::mt19937 random(5);
  for (const cpu::Isa& isa : cpu::isa_registry()) {
    if (!isa.is_supported()) continue;
    for (std::size_t d = 1; d < 100; ++d) {
      std::vector<std::uint8_t> a(d);
      std::vector<std::uint8_t> b(d);
      for (std::size_t i = 0; i < d; ++i) {
        a[i] = static_cast<std::uint8_t>(random());
        b[i] = static_cast<std::uint8_t>(random());
      }
      expect_sums_of_bytes(isa, isa.u8_sums, a, b);
      expect_sums_of_bytes(isa, isa.i8_sums, std::vector<std::int8_t>(a.begin(), a.end()),
                           std::vector<std::int8_t>(b.begin(), b.end()));
    }
    // Beyond what 32 bits hold, in one lane and in all.
    constexpr std::size_t kLong = 1'000'003;
    expect_sums_of_bytes(isa, isa.u8_sums, std::vector<std::uint8_t>(kLong, 255),
                         std::vector<std::uint8_t>(kLong, 255));
    expect_sums_of_bytes(isa, isa.u8_sums, std::vector<std::uint8_t>(kLong, 255),
                         std::vector<std::uint8_t>(kLong, 0));
    expect_sums_of_bytes(isa, isa.i8_sums, std::vector<std::int8_t>(kLong, -128),
                         std::vector<std::int8_t>(kLong, 127));
  }
}

TEST(KthLargest, is_reached_by_k_values_and_by_few_more) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  for (const cpu::Isa& isa : cpu::isa_registry()) {
    if (!isa.is_supported()) continue;
    for (const std::int64_t count : {1, 15, 16, 17, 200, 1000})
      for (const std::int64_t k : {std::int64_t{1}, count / 2 + 1, count})
        for (const bool has_unbounded : {false, true}) {
          auto values = normal_vectors(count, 1, static_cast<unsigned>(count));
          if (has_unbounded)
            for (std::size_t i = 0; i < values.size(); i += 3) values[i] = kLowest;
          auto sorted = values;
          std::ranges::sort(sorted, std::greater<>());
          const float exact = sorted[static_cast<std::size_t>(k - 1)];
          const float found = isa.kth_largest(values.data(), count, k);
          EXPECT_GE(std::ranges::count_if(sorted, [found](float value) { return value >= found; }), k)
              << isa.name << " k " << k << " of " << count;
          EXPECT_TRUE(found == exact || found >= exact - 1e-3f) << isa.name << " k " << k << " of " << count;
        }
    std::vector<float> equal(40, 0.5f);
    EXPECT_EQ(isa.kth_largest(equal.data(), 40, 7), 0.5f) << isa.name;
  }
}

TEST(Distance, follows_the_written_order_of_summation) {
  // Lanes 0, 4, 2, 6, then 1, 5, 3, 7: 1e16 and -1e16 meet before the ones only in this order.
  const float a[8] = {1e16f, 1, 0, 1, -1e16f, 0, 1, 0};
  const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_EQ(dot_product(a, ones, 8), 3.0);
  const float other[8] = {1e16f, -1e16f, 1, 0, 0, 0, 0, 0};
  EXPECT_EQ(dot_product(other, ones, 8), 0.0);
}

TEST(Distance, cosine_is_zero_for_zero_vectors_and_one_for_equal_ones) {
  EXPECT_EQ(cosine_similarity(0, 0, 5), 0.0);
  EXPECT_EQ(cosine_similarity(0, 5, 0), 0.0);
  for (std::int64_t d = 1; d < 40; ++d) {
    const auto a = normal_vectors(1, d, static_cast<unsigned>(d));
    const double squares = dot_product(a.data(), a.data(), d);
    EXPECT_EQ(static_cast<float>(cosine_similarity(squares, squares, squares)), 1.0f);
  }
}

}  // namespace
}  // namespace mpishards::kernels

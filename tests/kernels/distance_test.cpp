#include "kernels/distance.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

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

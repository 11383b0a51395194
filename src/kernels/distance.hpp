#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define MPISHARDS_HD __host__ __device__
#else
#define MPISHARDS_HD
#endif

namespace mpishards::kernels {

/// The one defined summation: term i goes to lane i mod 8 by a fused multiply-add in double, in order of i,
/// and the lanes are added pairwise: ((0+4)+(2+6)) + ((1+5)+(3+7)).
///
/// Every engine that follows it returns the same bits. Products of float32 values can't underflow in double,
/// and a float32 dot product of 8-bit integers is exact: each term and each partial sum is an integer far
/// below 2^53.
struct LaneSum {
  static constexpr int kLanes = 8;
  double lane[kLanes] = {};

  MPISHARDS_HD void add_product(std::int64_t index, double a, double b) {
    double& sum = lane[index % kLanes];
    sum = std::fma(a, b, sum);
  }
  MPISHARDS_HD double total() const {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  }
};

MPISHARDS_HD inline double dot_product(const float* a, const float* b, std::int64_t d) {
  LaneSum sum;
  for (std::int64_t i = 0; i < d; ++i) sum.add_product(i, a[i], b[i]);
  return sum.total();
}

/// Never negative: a sum of squares.
MPISHARDS_HD inline double l2_squared(const float* a, const float* b, std::int64_t d) {
  LaneSum sum;
  for (std::int64_t i = 0; i < d; ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum.add_product(i, difference, difference);
  }
  return sum.total();
}

/// out[r] = sum of weights[i] * byte i of row r, in float32: term i goes to lane i mod 8, rounded before it
/// is added, and the lanes are added like those of LaneSum.
/// @param bytes  rows x d, each 0 to 255
inline void byte_products(const float* weights, const std::byte* bytes, std::int64_t rows, std::int64_t d,
                          float* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float lane[LaneSum::kLanes] = {};
    for (std::int64_t i = 0; i < d; ++i)
      lane[i % LaneSum::kLanes] += weights[i] * static_cast<float>(std::to_integer<int>(bytes[r * d + i]));
    out[r] = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  }
}

/// Sums over 8-bit integers. They are what the defined sums over the same values are: all of their steps are
/// whole numbers far below 2^53.
template <class Byte>
std::int64_t byte_dot_product(const std::byte* a, const std::byte* b, std::int64_t d) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < d; ++i)
    sum += static_cast<std::int64_t>(static_cast<Byte>(a[i])) * static_cast<Byte>(b[i]);
  return sum;
}
template <class Byte>
std::int64_t byte_l2_squared(const std::byte* a, const std::byte* b, std::int64_t d) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    const int difference = static_cast<Byte>(a[i]) - static_cast<Byte>(b[i]);
    sum += static_cast<std::int64_t>(difference) * difference;
  }
  return sum;
}

/// Cosine similarity from three dot products; 0 where either vector is zero.
///
/// Not clamped: double rounding can pass 1 by a few 2^-53 only, which float32 rounds back to 1.
MPISHARDS_HD inline double cosine_similarity(double ab, double aa, double bb) {
  const double squares = aa * bb;
  return squares > 0 ? ab / std::sqrt(squares) : 0.0;
}

}  // namespace mpishards::kernels

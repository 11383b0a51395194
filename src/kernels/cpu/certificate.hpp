#pragma once

#include <bit>
#include <cstdint>

#include "core/metric.hpp"

namespace mpishards::kernels::cpu {

/// Bounds of a Euclidean norm, rounded outward.
struct NormRange {
  double low = 0;
  double high = 0;
};

/// @param sum_of_squares  as summed in double, in any order
NormRange norm_range(double sum_of_squares, std::int64_t d);

/// Largest values over a block of base rows.
struct RowMaxima {
  double norm = 0;
  double scale = 0;  // cosine: of 1/norm

  void include(const RowMaxima& other);
};

/// What one query's float32 scores prove.
///
/// The exact score S, larger is better, is q.x - |x|^2/2 (l2), q.x (ip) or q.x/|x| (cosine).
class Certificate {
 public:
  Certificate() = default;
  /// @param query_squares  the defined sum q.q
  /// @param max_row_norm   at least the norm of every base row
  /// @param error_factor   1; tests weaken the bound to see that it bites
  Certificate(Metric metric, std::int64_t d, double query_squares, double max_row_norm,
              double error_factor = 1);

  /// E with |screened score - S| <= E for all rows of a block; infinite where float32 proves nothing.
  ///
  /// With u = 2^-24 and g = n*u/(1-n*u), any order of summation of d products has |fl(q.x) - q.x| <= g |q||x|
  /// by Cauchy-Schwarz, plus one half of the smallest subnormal for each product that underflows.
  /// @par Source  N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1
  double error(const RowMaxima& rows) const;

  /// Every row with S below this is strictly worse, in the float32 distances that are written, than a row
  /// whose S is at least `score`: so it can't come before it, not even as a tie by smaller id.
  double cut_from_score(double score) const;

  /// The same for a row whose float32 distance is `distance` or better.
  double cut_from_distance(float distance) const;

 private:
  double cut_from_l2(double distance) const;
  double cut_from_similarity(double score) const;

  Metric metric_ = Metric::l2;
  double factor_ = 1;
  double gamma_ = 0;      // infinite where d is too large for the bound
  double underflow_ = 0;  // of all products of one dot product
  double query_squares_ = 0;
  NormRange query_norm_;
  double squares_error_ = 0;  // relative, of double sums of squares and what l2 does with them
  double rerank_error_ = 0;   // of the double score, ip and cosine
};

/// Screened scores below this, each within `error` of the exact one, are of rows whose exact score is below
/// `cut`. Without a bound every row is a candidate: the direct path, in double.
float screen_threshold(double cut, double error);

/// Largest float32 not above `value`.
inline float round_down(double value) {
  const auto nearest = static_cast<float>(value);
  if (!(nearest > value)) return nearest;
  // The next float below: one less for a positive one, one more of the magnitude else; below 0 and -0 comes
  // the smallest negative.
  const auto bits = std::bit_cast<std::uint32_t>(nearest == 0 ? -0.0f : nearest);
  return std::bit_cast<float>(nearest > 0 ? bits - 1 : bits + 1);
}
/// Smallest float32 not below `value`.
inline float round_up(double value) {
  return -round_down(-value);
}

}  // namespace mpishards::kernels::cpu

#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/metric.hpp"
#include "kernels/distance.hpp"

// What a score that is known within bounds says about the float32 distances that are written: the part of the
// proof that all engines share, whatever they screen with.
namespace mpishards::kernels {

/// Largest float32 not above `value`.
MPISHARDS_HD inline float round_down(double value) {
  const auto nearest = static_cast<float>(value);
  if (!(nearest > value)) return nearest;
  // The next float below: one less for a positive one, one more of the magnitude else; below 0 and -0 comes
  // the smallest negative.
  const auto bits = std::bit_cast<std::uint32_t>(nearest == 0 ? -0.0f : nearest);
  return std::bit_cast<float>(nearest > 0 ? bits - 1 : bits + 1);
}
/// Smallest float32 not below `value`.
MPISHARDS_HD inline float round_up(double value) {
  return -round_down(-value);
}

/// Bounds of a Euclidean norm, rounded outward.
struct NormRange {
  double low = 0;
  double high = 0;
};

/// @param sum_of_squares  as summed in double, in any order
MPISHARDS_HD inline NormRange norm_range(double sum_of_squares, std::int64_t d) {
  const double norm = std::sqrt(sum_of_squares);
  const double relative = static_cast<double>(d + 16) * 0x1p-53;
  return {norm * (1 - relative), norm * (1 + relative)};
}

/// n*u/(1-n*u): what n rounded operations err by, relatively; infinite where that proves nothing.
/// @par Source  N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1
MPISHARDS_HD inline double rounding_gamma(std::int64_t n, double unit) {
  const double nu = static_cast<double>(n) * unit;
  return nu < 0.5 ? nu / (1 - nu) : std::numeric_limits<double>::infinity();
}

/// Scores below which rows are out, by one query.
///
/// The exact score S, larger is better, is q.x - |x|^2/2 (l2), q.x (ip) or q.x/|x| (cosine).
class ScoreCut {
 public:
  ScoreCut() = default;
  /// @param query_squares  the defined sum q.q
  /// @param max_row_norm   at least the norm of every base row
  MPISHARDS_HD ScoreCut(Metric metric, std::int64_t d, double query_squares, double max_row_norm)
      : metric_(metric),
        query_squares_(query_squares),
        query_norm_(norm_range(query_squares, d)),
        squares_error_(static_cast<double>(d + 16) * 4 * kDoubleRounding) {
    // A double dot product errs by gamma |q||x|; the cosine's square root and quotient by a few units more.
    const double relative = 2 * rounding_gamma(d + 16, kDoubleRounding);
    if (metric == Metric::ip) rerank_error_ = relative * query_norm_.high * max_row_norm;
    if (metric == Metric::cosine) rerank_error_ = relative * query_norm_.high;
  }

  MPISHARDS_HD double query_squares() const { return query_squares_; }
  MPISHARDS_HD const NormRange& query_norm() const { return query_norm_; }

  /// Every row with S below this is strictly worse, in the float32 distances that are written, than a row
  /// whose S is at least `score`: so it can't come before it, not even as a tie by smaller id.
  MPISHARDS_HD double from_score(double score) const {
    if (metric_ != Metric::l2) return from_similarity(score);
    // D = |q|^2 - 2 S, rounded up.
    const double distance =
        query_squares_ - 2 * score + squares_error_ * (query_squares_ + 2 * std::abs(score));
    return from_l2(distance > 0 ? distance : 0.0);
  }

  /// The same for a row whose float32 distance is `distance` or better.
  MPISHARDS_HD double from_distance(float distance) const {
    if (metric_ == Metric::l2) return from_l2(distance);
    if (metric_ == Metric::ip) return from_similarity(distance);
    const double cosine = distance;
    if (!(std::abs(cosine) < kInfinity)) return -kInfinity;
    const double low = cosine * query_norm_.low;
    const double high = cosine * query_norm_.high;
    return from_similarity(low < high ? low : high);
  }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr double kDoubleRounding = 0x1p-53;
  // Two doubles that differ by more than this part round to different float32 values: each rounding moves a
  // value by at most 2^-24 of it, the double sums by far less, and 2^-21 leaves room for both.
  static constexpr double kTie = 0x1p-21;
  static constexpr double kTieSubnormal = 0x1p-147;
  static constexpr double kFloatOverflow = std::numeric_limits<float>::max() * (1 - 0x1p-20);

  MPISHARDS_HD double from_l2(double distance) const {
    if (!(distance < kFloatOverflow)) return -kInfinity;  // from here on all are written as infinity, and tie
    const double farther = distance * (1 + kTie) + kTieSubnormal;
    const double slop = squares_error_ * (query_squares_ + farther);
    return (query_squares_ - farther) / 2 - slop;
  }

  MPISHARDS_HD double from_similarity(double score) const {
    // Beyond float32's range all are written as infinity, and tie.
    const double scale = metric_ == Metric::cosine ? query_norm_.high : 1.0;
    if (!(score > -kFloatOverflow)) return -kInfinity;
    const double kept = score < kFloatOverflow ? score : kFloatOverflow;
    return kept - std::abs(kept) * kTie - kTieSubnormal * (scale > 1.0 ? scale : 1.0) - 2 * rerank_error_;
  }

  Metric metric_ = Metric::l2;
  double query_squares_ = 0;
  NormRange query_norm_;
  double squares_error_ = 0;  // relative, of double sums of squares and what l2 does with them
  double rerank_error_ = 0;   // of the double score, ip and cosine
};

/// Screened scores below this, each within `error` of the exact one, are of rows whose exact score is below
/// `cut`. Without a bound every row is a candidate: the direct path, in double.
MPISHARDS_HD inline float screen_threshold(double cut, double error) {
  return error == std::numeric_limits<double>::infinity() ? -std::numeric_limits<float>::infinity()
                                                          : round_down(cut - error);
}

}  // namespace mpishards::kernels

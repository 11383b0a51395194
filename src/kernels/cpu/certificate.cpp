#include "kernels/cpu/certificate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFloatRounding = 0x1p-24;
constexpr double kDoubleRounding = 0x1p-53;
constexpr double kSmallestFloat = 0x1p-149;
// Products and partial sums of magnitudes up to this, widened by the bound, stay below float32's largest
// value.
constexpr double kLargestCertified = 1e37;
// Two doubles that differ by more than this part round to different float32 values: each rounding moves a
// value by at most 2^-24 of it, the double sums by far less, and 2^-21 leaves room for both.
constexpr double kTie = 0x1p-21;
constexpr double kTieSubnormal = 0x1p-147;
constexpr double kFloatOverflow = std::numeric_limits<float>::max() * (1 - 0x1p-20);
// Room for the few double operations of a bound itself.
constexpr double kOutward = 1 + 0x1p-40;

double gamma(std::int64_t n, double unit) {
  const double nu = static_cast<double>(n) * unit;
  return nu < 0.5 ? nu / (1 - nu) : kInfinity;
}

}  // namespace

NormRange norm_range(double sum_of_squares, std::int64_t d) {
  const double norm = std::sqrt(sum_of_squares);
  const double relative = static_cast<double>(d + 16) * kDoubleRounding;
  return {norm * (1 - relative), norm * (1 + relative)};
}

void RowMaxima::include(const RowMaxima& other) {
  norm = std::max(norm, other.norm);
  scale = std::max(scale, other.scale);
}

Certificate::Certificate(Metric metric, std::int64_t d, double query_squares, double max_row_norm,
                         double error_factor)
    : metric_(metric),
      factor_(error_factor),
      gamma_(gamma(d + 4, kFloatRounding)),
      underflow_(static_cast<double>(d + 4) * kSmallestFloat),
      query_squares_(query_squares),
      query_norm_(norm_range(query_squares, d)),
      squares_error_(static_cast<double>(d + 16) * 4 * kDoubleRounding) {
  // A double dot product errs by gamma |q||x|; the cosine's square root and quotient by a few units more.
  const double relative = 2 * gamma(d + 16, kDoubleRounding);
  if (metric == Metric::ip) rerank_error_ = relative * query_norm_.high * max_row_norm;
  if (metric == Metric::cosine) rerank_error_ = relative * query_norm_.high;
}

double Certificate::error(const RowMaxima& rows) const {
  const double qx = query_norm_.high * rows.norm;
  const double xx = metric_ == Metric::l2 ? rows.norm * rows.norm : 0;
  const bool in_range = qx <= kLargestCertified && xx <= kLargestCertified && rows.scale <= kLargestCertified;
  if (!in_range || gamma_ == kInfinity) return kInfinity;

  // Behind the dot product: the rounding of bias or scale, and of the one sum or product with it.
  const double rounding = 2 * kFloatRounding * (1 + gamma_);
  double error = 0;
  switch (metric_) {
    case Metric::l2:
      error = gamma_ * qx + rounding * (qx + xx) + underflow_;
      break;
    case Metric::ip:
      error = gamma_ * qx + underflow_;
      break;
    case Metric::cosine:
      error = (gamma_ + 2 * rounding) * query_norm_.high + underflow_ * (1 + 2 * rows.scale);
      break;
  }
  return error * kOutward * factor_;
}

double Certificate::cut_from_score(double score) const {
  if (metric_ != Metric::l2) return cut_from_similarity(score);
  // D = |q|^2 - 2 S, rounded up.
  const double distance =
      query_squares_ - 2 * score + squares_error_ * (query_squares_ + 2 * std::abs(score));
  return cut_from_l2(std::max(distance, 0.0));
}

double Certificate::cut_from_distance(float distance) const {
  switch (metric_) {
    case Metric::l2:
      return cut_from_l2(distance);
    case Metric::ip:
      return cut_from_similarity(distance);
    case Metric::cosine:
      break;
  }
  const double cosine = distance;
  if (!std::isfinite(cosine)) return -kInfinity;
  return cut_from_similarity(std::min(cosine * query_norm_.low, cosine * query_norm_.high));
}

double Certificate::cut_from_l2(double distance) const {
  if (!(distance < kFloatOverflow)) return -kInfinity;  // from here on all are written as infinity, and tie
  const double farther = distance * (1 + kTie) + kTieSubnormal;
  const double slop = squares_error_ * (query_squares_ + farther);
  return (query_squares_ - farther) / 2 - slop;
}

double Certificate::cut_from_similarity(double score) const {
  // Beyond float32's range all are written as infinity, and tie.
  const double scale = metric_ == Metric::cosine ? query_norm_.high : 1.0;
  if (!(score > -kFloatOverflow)) return -kInfinity;
  const double kept = std::min(score, kFloatOverflow);
  return kept - std::abs(kept) * kTie - kTieSubnormal * std::max(scale, 1.0) - 2 * rerank_error_;
}

float screen_threshold(double cut, double error) {
  return error == kInfinity ? -std::numeric_limits<float>::infinity() : round_down(cut - error);
}

}  // namespace mpishards::kernels::cpu

#include "kernels/cpu/certificate.hpp"

#include <algorithm>
#include <limits>

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFloatRounding = 0x1p-24;
constexpr double kSmallestFloat = 0x1p-149;
// Products and partial sums of magnitudes up to this, widened by the bound, stay below float32's largest
// value.
constexpr double kLargestCertified = 1e37;
// Room for the few double operations of a bound itself.
constexpr double kOutward = 1 + 0x1p-40;

}  // namespace

void RowMaxima::include(const RowMaxima& other) {
  norm = std::max(norm, other.norm);
  scale = std::max(scale, other.scale);
}

Certificate::Certificate(Metric metric, std::int64_t d, double query_squares, double max_row_norm,
                         double error_factor)
    : metric_(metric),
      factor_(error_factor),
      gamma_(rounding_gamma(d + 4, kFloatRounding)),
      underflow_(static_cast<double>(d + 4) * kSmallestFloat),
      cut_(metric, d, query_squares, max_row_norm) {}

double Certificate::error(const RowMaxima& rows) const {
  const double query_norm = cut_.query_norm().high;
  const double qx = query_norm * rows.norm;
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
      error = (gamma_ + 2 * rounding) * query_norm + underflow_ * (1 + 2 * rows.scale);
      break;
  }
  return error * kOutward * factor_;
}

}  // namespace mpishards::kernels::cpu

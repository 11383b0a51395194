#include "kernels/cpu/plane_values.hpp"

#include <cmath>
#include <limits>

#include "core/convert.hpp"

namespace mpishards::kernels::cpu {

std::int64_t padded_values(PlaneType type, std::int64_t d) {
  return row_tiles(type, d) * kTileRowBytes / bytes_per_value(type);
}

double byte_scale(double largest) {
  constexpr double kLargestByte = 127;
  return largest > 0 && largest < std::numeric_limits<double>::infinity() ? largest / kLargestByte : 1.0;
}

bool holds_sums_of_bytes(std::int64_t d) {
  constexpr std::int64_t kLargestByteProduct = std::int64_t{128} * 128;
  return padded_values(PlaneType::s8, d) <= std::numeric_limits<std::int32_t>::max() / kLargestByteProduct;
}

CenteredSums RowReader::read(std::int64_t row, double* values) const {
  const float* const x = floats_of(row);
  double factor = 1;
  if (metric_ == Metric::cosine) {
    const double squares = isa_.dot_product(x, x, base_.cols);
    factor = squares > 0 ? 1 / std::sqrt(squares) : 0;
  }
  return isa_.plane->subtract_center(x, factor, center_.empty() ? nullptr : center_.data(), base_.cols,
                                     values);
}

const float* RowReader::floats_of(std::int64_t row) const {
  if (base_.dtype == DType::f32) return base_.as<const float>().row(row);
  to_float32(base_.dtype, base_.row(row), base_.cols, floats_);
  return floats_;
}

}  // namespace mpishards::kernels::cpu

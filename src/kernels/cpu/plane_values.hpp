#pragma once

#include <cstdint>
#include <span>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/plane.hpp"

// What rows and queries share on their way into a plane.
namespace mpishards::kernels::cpu {

/// Sums of an exact plane stay below this in magnitude.
inline constexpr double kLargestUnits = 0x1p30;
/// Room for the few double operations of a bound itself.
inline constexpr double kOutward = 1 + 0x1p-40;

/// Values in whole tiles of a row of d.
std::int64_t padded_values(PlaneType type, std::int64_t d);

/// One unit of the bytes that hold values of at most this magnitude.
double byte_scale(double largest);

/// True where int32 holds any sum of d products of two bytes.
bool holds_sums_of_bytes(std::int64_t d);

/// A row in double, as a plane of this metric and center sees it.
class RowReader {
 public:
  /// @param center  subtracted; may be empty @param floats  base.cols of them, for rows of other dtypes
  /// @pre isa.plane != nullptr
  RowReader(TypedView base, Metric metric, std::span<const float> center, const Isa& isa, float* floats)
      : base_(base), metric_(metric), center_(center), isa_(isa), floats_(floats) {}

  CenteredSums read(std::int64_t row, double* values) const;

 private:
  const float* floats_of(std::int64_t row) const;

  TypedView base_;
  Metric metric_;
  std::span<const float> center_;
  const Isa& isa_;
  float* floats_;
};

}  // namespace mpishards::kernels::cpu

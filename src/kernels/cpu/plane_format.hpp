#pragma once

#include <optional>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/plane.hpp"

namespace mpishards::kernels::cpu {

/// How the rows of a base are packed, so that those of a sample can be packed alike.
struct PlaneFormat {
  PlaneType type = PlaneType::bf16;
  bool is_exact = false;      // 8-bit data: nothing is lost, nothing is scaled
  std::vector<float> center;  // subtracted from rows (cosine: of length one); empty where is_exact
};

/// The type of bytes that hold all values of a sample of rows as they are, if there is one.
std::optional<PlaneType> exact_type_of(TypedView base, Metric metric);

/// A format that loses something, around the mean of rows spread over the base.
/// @param type  bf16 or s8; none: whichever a sample of rows says is searched sooner
/// @par Cost  of the sample: two packings of up to 65536 rows, and 16 float64 products with each
PlaneFormat lossy_format_of(TypedView base, Metric metric, std::optional<PlaneType> type, const Isa& isa,
                            int threads);

}  // namespace mpishards::kernels::cpu

#pragma once

#include <cstdint>
#include <optional>

#include "core/matrix_view.hpp"
#include "core/types.hpp"

namespace mpishards {

/// Widens (or, from f64, narrows to nearest) `count` elements to float32.
/// @pre dtype is a vector type (not i32 or i64)
void to_float32(DType dtype, const std::byte* in, std::int64_t count, float* out);
/// The same for a whole matrix; float32 is handed on as it is. @throws std::bad_alloc
Matrix to_float32(Matrix stored);

/// Converts `count` elements between any two dtypes, through double; to nearest, ties to even.
/// @throws Error{data} where an integer type can't hold a value (out of range, a fraction, not finite)
void convert_elements(DType from, const std::byte* in, DType to, std::byte* out, std::int64_t count);

/// First row that holds NaN or an infinity, or, for f64, a value beyond float32's range.
/// Empty for integer types without a look.
std::optional<std::int64_t> first_nonfinite_row(TypedView view, std::int64_t from_row = 0);

}  // namespace mpishards

#pragma once

#include <cstdint>

#include "core/matrix_view.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// @throws Error{data} naming the file and the row, always
[[noreturn]] void refuse_nonfinite(const io::VectorSource& base, std::int64_t row);

/// @param rows       as `base` holds them, or narrowed to float32
/// @param first_row  number of the first in the base
/// @throws Error{data} naming file and row of the first value that is no finite float32
void require_finite(const io::VectorSource& base, TypedView rows, std::int64_t first_row);

}  // namespace mpishards::rank

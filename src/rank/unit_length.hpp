#pragma once

#include "core/matrix_view.hpp"

namespace mpishards::rank {

/// Gives every row length 1, by a scale in double; a row of zeros, which has no direction, stays as it is.
void to_unit_length(MatrixView<float> rows);

}  // namespace mpishards::rank

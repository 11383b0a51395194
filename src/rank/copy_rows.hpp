#pragma once

#include <algorithm>
#include <cstdint>

#include "core/matrix_view.hpp"

namespace mpishards::rank {

/// Rows [begin, end) of a matrix as one of their own. @throws std::bad_alloc
inline Matrix copy_rows(const Matrix& matrix, std::int64_t begin, std::int64_t end) {
  Matrix rows(matrix.dtype(), end - begin, matrix.cols());
  if (rows.bytes() > 0) std::copy_n(matrix.view().row(begin), rows.bytes(), rows.data());
  return rows;
}

}  // namespace mpishards::rank

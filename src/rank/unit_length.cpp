#include "rank/unit_length.hpp"

#include <cmath>

namespace mpishards::rank {

void to_unit_length(MatrixView<float> rows) {
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    float* const row = rows.row(r);
    double square = 0;
    for (std::int64_t j = 0; j < rows.cols; ++j) square += static_cast<double>(row[j]) * row[j];
    if (square == 0) continue;
    const double scale = 1 / std::sqrt(square);
    for (std::int64_t j = 0; j < rows.cols; ++j) row[j] = static_cast<float>(row[j] * scale);
  }
}

}  // namespace mpishards::rank

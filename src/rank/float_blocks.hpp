#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/convert.hpp"
#include "core/matrix_view.hpp"
#include "io/range.hpp"

namespace mpishards::rank {

/// Calls visit(rows as float32, index of the first) for some consecutive rows of a base after the other, so
/// few that they stay in a core's cache while several queries meet them.
/// @par Cost  128 KiB of memory, or a row, for the thread that calls
template <class Visit>
void visit_float_blocks(TypedView base, io::Range rows, Visit visit) {
  constexpr std::int64_t kBlockFloats = 1 << 15;
  const std::int64_t step = std::max<std::int64_t>(1, kBlockFloats / std::max<std::int64_t>(1, base.cols));
  std::vector<float> floats(static_cast<std::size_t>(std::min(step, rows.end - rows.begin) * base.cols));
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += step) {
    const std::int64_t count = std::min(step, rows.end - begin);
    to_float32(base.dtype, base.row(begin), count * base.cols, floats.data());
    visit(MatrixView<const float>{floats.data(), count, base.cols}, begin);
  }
}

}  // namespace mpishards::rank

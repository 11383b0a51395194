#include "kernels/cpu/row_norms.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/convert.hpp"

namespace mpishards::kernels::cpu {

std::int64_t RowNorms::bytes_for(std::int64_t rows) {
  const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  return rows * static_cast<std::int64_t>(sizeof(float)) +
         blocks * static_cast<std::int64_t>(sizeof(RowMaxima));
}

void RowNorms::build(TypedView base, Metric metric, const Isa& isa, int threads) {
  metric_ = metric;
  const std::int64_t blocks = (base.rows + kBlockRows - 1) / kBlockRows;
  values_.resize(metric == Metric::ip ? 0 : static_cast<std::size_t>(base.rows));
  blocks_.assign(static_cast<std::size_t>(blocks), RowMaxima{});
  std::vector<float> floats(static_cast<std::size_t>(base.cols * threads));
  float* const all_floats = floats.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread)
    for (std::int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; ++block)
      build_block(base, block, isa, all_floats + base.cols * thread);
  all_ = maxima(0, base.rows);
}

void RowNorms::build_block(TypedView base, std::int64_t block, const Isa& isa, float* row_floats) {
  RowMaxima maxima;
  const std::int64_t end = std::min(base.rows, (block + 1) * kBlockRows);
  for (std::int64_t row = block * kBlockRows; row < end; ++row) {
    to_float32(base.dtype, base.row(row), base.cols, row_floats);
    const double squares = isa.dot_product(row_floats, row_floats, base.cols);
    RowMaxima own{norm_range(squares, base.cols).high, 0};
    if (metric_ == Metric::l2) values_[static_cast<std::size_t>(row)] = static_cast<float>(-squares / 2);
    if (metric_ == Metric::cosine) {
      const double inverse = squares > 0 ? 1 / std::sqrt(squares) : 0;
      // Beyond float32's range the block is not certified, and the value is not used.
      own.scale = inverse;
      values_[static_cast<std::size_t>(row)] =
          static_cast<float>(std::min<double>(inverse, std::numeric_limits<float>::max()));
    }
    maxima.include(own);
  }
  blocks_[static_cast<std::size_t>(block)] = maxima;
}

RowMaxima RowNorms::maxima(std::int64_t begin, std::int64_t end) const {
  RowMaxima all;
  for (std::int64_t block = begin / kBlockRows; block * kBlockRows < end; ++block)
    all.include(blocks_[static_cast<std::size_t>(block)]);
  return all;
}

}  // namespace mpishards::kernels::cpu

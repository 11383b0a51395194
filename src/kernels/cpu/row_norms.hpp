#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/certificate.hpp"
#include "kernels/cpu/isa.hpp"

namespace mpishards::kernels::cpu {

/// What the screen needs beside the base rows: one float a row (none for ip) and the maxima of each block of
/// rows.
class RowNorms {
 public:
  static constexpr std::int64_t kBlockRows = 256;

  /// May be called again; memory is kept. @par Cost reads all rows once
  void build(TypedView base, Metric metric, const Isa& isa, int threads);

  /// l2: -|x|^2/2 of rows from `row` on; else null.
  const float* bias(std::int64_t row) const { return metric_ == Metric::l2 ? values_.data() + row : nullptr; }
  /// cosine: 1/|x| of rows from `row` on, 0 for a zero row; else null.
  const float* scale(std::int64_t row) const {
    return metric_ == Metric::cosine ? values_.data() + row : nullptr;
  }

  /// Over all rows.
  const RowMaxima& maxima() const { return all_; }
  /// Over whole blocks, so it may include rows beside [begin, end).
  RowMaxima maxima(std::int64_t begin, std::int64_t end) const;

  std::size_t bytes() const {
    return values_.capacity() * sizeof(float) + blocks_.capacity() * sizeof(RowMaxima);
  }
  /// At most, whatever the metric.
  static std::int64_t bytes_for(std::int64_t rows);

 private:
  void build_block(TypedView base, std::int64_t block, const Isa& isa, float* row_floats);

  Metric metric_ = Metric::l2;
  std::vector<float> values_;
  std::vector<RowMaxima> blocks_;
  RowMaxima all_;
};

}  // namespace mpishards::kernels::cpu

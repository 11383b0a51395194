#pragma once

#include <cstdint>

#include "core/matrix_view.hpp"

namespace mpishards::kernels::cpu {

/// Takes what a screen can't exclude. Adding may raise the thresholds of that query.
class CandidateSink {
 public:
  /// @param row  row of the tile's base block
  virtual void add(std::int64_t query, std::int64_t row, float score) = 0;

 protected:
  ~CandidateSink() = default;
};

/// One chunk of queries against one block of base rows, in float32.
///
/// score = scale[row] * (query . row) + bias[row]; larger is better. The dot product may be summed in any
/// order: the certificate covers them all. A screen reports every pair whose score is not below its query's
/// threshold; a NaN is reported too.
struct ScreenTile {
  MatrixView<const float> queries;
  MatrixView<const float> base;
  const float* scale = nullptr;       // null: all ones
  const float* bias = nullptr;        // null: all zeros
  const float* thresholds = nullptr;  // one a query; the sink may raise them meanwhile
  float* scores = nullptr;            // scratch, queries.rows x base.rows
};

}  // namespace mpishards::kernels::cpu

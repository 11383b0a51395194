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
  const float* packed_queries = nullptr;  // as the screen's own pack_queries left them
  MatrixView<const float> base;
  const float* scale = nullptr;       // null: all ones
  const float* bias = nullptr;        // null: all zeros
  const float* thresholds = nullptr;  // one a query; the sink may raise them meanwhile
  float* scratch = nullptr;           // scratch_floats() of them, 64-byte aligned
};

/// A way to screen; memory is the caller's, so that it is planned and kept.
struct Screen {
  /// Size of a chunk of queries in the screen's own order; 0 where it takes them as they are.
  std::int64_t (*packed_query_floats)(std::int64_t nq, std::int64_t d);
  /// Called once a chunk. @param[out] packed  packed_query_floats() of them, 64-byte aligned
  void (*pack_queries)(MatrixView<const float> queries, float* packed);
  std::int64_t (*scratch_floats)(std::int64_t nq, std::int64_t base_rows, std::int64_t d);
  void (*run)(const ScreenTile& tile, CandidateSink& sink);
};

}  // namespace mpishards::kernels::cpu

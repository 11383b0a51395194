#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/plane.hpp"
#include "kernels/cpu/row_plane.hpp"

namespace mpishards::kernels::cpu {

/// One thread's chunk of queries, packed as a plane's rows are, and what that proves of its scores.
///
/// A screened score s' of packed values stands for S' = S - offset(query); |s' - S'| <= error(query, block).
/// Bytes are scaled for each query, and for each block of rows.
class PlaneQueries {
 public:
  /// @param sample_rows  of the plane that kth_scores will see
  void reserve(std::int64_t queries, std::int64_t d, std::int64_t sample_rows, const Isa& isa);
  static std::int64_t bytes_for(std::int64_t queries, std::int64_t d, std::int64_t sample_rows,
                                const Isa& isa);
  std::size_t bytes() const;

  /// @return false where the plane proves nothing of these queries: they are no 8-bit integers as its rows
  /// are,
  ///         or float32 may overflow
  bool begin(const RowPlane& plane, Metric metric, const Isa& isa, MatrixView<const float> queries,
             double error_factor);

  /// False where sums with the rows of another plane of this format may not fit into their type.
  bool fits(const RowPlane& plane) const;

  double offset(std::int64_t query) const { return queries_[static_cast<std::size_t>(query)].offset; }
  double error(std::int64_t query, const PlaneBlock& block) const;

  /// Consecutive queries.
  struct Range {
    std::int64_t begin = 0;  // a multiple of kPanelRows
    std::int64_t end = 0;    // another one, or that of all
  };

  /// Screens places [begin, end) of a plane of the same format. @pre they lie in one block; begin is a
  /// multiple of kPanelRows @param thresholds  as PlaneTile's, of all queries
  /// @param sink  is told of queries by their place in the range
  void screen(const RowPlane& plane, const PlaneBlock& block, std::int64_t begin, std::int64_t end,
              Range queries, const float* thresholds, CandidateSink& sink);

  /// Finds a value of S' a query that k rows of a plane reach for sure, close to the k-th best of what is
  /// sure. @pre k <= rows / kTileRows; the plane has no cells @param[out] scores  padded_queries() of them
  void kth_scores(const RowPlane& plane, std::int64_t k, float* scores);
  /// What kth_scores keeps.
  static std::int64_t group_bytes(std::int64_t queries, std::int64_t rows) {
    return padded_queries(queries) * (rows / kTileRows + 1) * static_cast<std::int64_t>(sizeof(float));
  }

 private:
  struct Query {
    double norm = 0;      // of what is to be packed; rounded up, as the others
    double residual = 0;  // of what packing lost
    double packed_norm = 0;
    double offset = 0;
    double offset_error = 0;
    double scale = 1;  // of one unit of the packed query
  };

  void pack_tile(std::int64_t tile, std::int64_t row_bytes);
  PlaneTile tile_of(const RowPlane& plane, const PlaneBlock& block, std::int64_t begin, std::int64_t end,
                    Range queries);
  bool is_scaled() const { return type_ == PlaneType::s8 && !is_exact_; }

  const Isa* isa_ = nullptr;
  std::int64_t n_queries_ = 0;
  PlaneType type_ = PlaneType::bf16;
  bool has_bias_ = false;
  bool is_exact_ = false;    // the plane, and these queries
  double largest_norm_ = 0;  // of the packed queries
  double gamma_ = 0;         // of the sums of products and bias, relative to norms
  double underflow_ = 0;     // of the sums
  double error_factor_ = 1;
  std::vector<Query> queries_;
  std::vector<float> errors_;  // one a query, of the block at hand
  std::vector<double> values_;
  std::vector<std::byte> rows_;  // 16 packed queries, one after the other
  Matrix packed_;
  Matrix units_;  // floats, one a query
  Matrix scratch_;
  Matrix groups_;
};

}  // namespace mpishards::kernels::cpu

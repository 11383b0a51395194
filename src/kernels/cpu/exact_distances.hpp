#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/scratch.hpp"

namespace mpishards::kernels::cpu {

/// The distances that are written: of one chunk of queries to rows as they are stored, by the defined sums.
class ExactDistances {
 public:
  /// Room for so many queries; memory is kept. @param dtype  of the rows that follow
  void reserve(std::int64_t queries, std::int64_t d, DType dtype);
  /// What reserve() takes.
  static std::int64_t bytes_for(std::int64_t queries, std::int64_t d, DType dtype);
  std::size_t bytes() const;

  /// Takes a chunk of queries. Those that rows of bytes could hold are summed in integers: the same
  /// distances.
  /// @param dtype  as reserved
  void begin(Metric metric, const Isa& isa, MatrixView<const float> queries, DType dtype);

  /// The defined sum q.q.
  double query_squares(std::int64_t query) const { return query_squares_[static_cast<std::size_t>(query)]; }
  float distance(std::int64_t query, const std::byte* row);
  /// To at most kRowsAtOnce rows, sooner than one by one. @param[out] out  one a row
  void distances(std::int64_t query, std::span<const std::byte* const> rows, float* out);
  static constexpr std::size_t kRowsAtOnce = 4;

 private:
  float byte_distance(std::int64_t query, const std::byte* row) const;

  Metric metric_ = Metric::l2;
  const Isa* isa_ = nullptr;
  MatrixView<const float> queries_;
  DType dtype_ = DType::f32;
  std::vector<double> query_squares_;
  std::vector<float> row_floats_;
  const Isa::ByteSums* sums_ = nullptr;
  BulkVector<std::byte> query_bytes_;
  std::vector<char> has_bytes_;  // one a query
};

/// Candidates lie anywhere in memory: this many rows before one is used it is asked for.
inline constexpr std::ptrdiff_t kPrefetchRows = 8;
void prefetch_row(const std::byte* row, std::size_t row_bytes);

}  // namespace mpishards::kernels::cpu

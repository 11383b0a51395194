#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"

namespace mpishards::kernels::cpu {

/// A base divided into cells, each of rows that are near to its center. Where data lie in clusters, a search
/// proves by the triangle inequality that most cells hold nothing for a query, and passes over them.
///
/// Centers are in the space of the rows (l2, ip) or of x/|x| (cosine). Which cell a row is in changes what a
/// search costs, never what it finds.
/// @par Source  centers are seeded in rounds as by B. Bahmani et al., Scalable K-Means++, VLDB 2012, but
/// evenly along the sum of squared distances instead of at random
class RowCells {
 public:
  /// How many cells these rows are divided into; 0: too few rows to gain by it.
  static std::int64_t cells_for(std::int64_t rows);
  /// What build() takes at most.
  static std::int64_t bytes_for(std::int64_t rows, std::int64_t d, const CpuLimits& limits);

  /// Divides rows, or leaves the cells empty where a sample says that most of them would be searched anyway.
  /// @pre distances between rows are far from float32's largest value
  /// @par Cost  to find that out: 24 rows a cell are compared with all centers about five times; to divide:
  /// once more all rows. On two cores with AMX 0.5 s and 1.5 to 2 s were seen for 1M x 96
  void build(TypedView base, Metric metric, const Isa& isa, int threads);
  void clear();

  bool is_empty() const { return n_cells_ == 0; }
  std::int64_t count() const { return n_cells_; }
  /// A center is the sum of the origin and the cell's offset.
  const float* origin() const { return origin_.data(); }
  const float* offset(std::int64_t cell) const { return offsets_.data() + cell * d_; }
  /// As summed in double.
  double offset_squares(std::int64_t cell) const { return offset_squares_[static_cast<std::size_t>(cell)]; }
  /// One a row, until they are forgotten.
  std::span<const std::uint32_t> cell_of_row() const { return cell_of_row_; }
  void forget_rows() { std::vector<std::uint32_t>().swap(cell_of_row_); }

  /// Finds the cell with the nearest center. @param[out] cells  one a vector
  void nearest(TypedView vectors, std::span<std::uint32_t> cells);

  std::size_t bytes() const;

 private:
  void set_origin(TypedView base);
  /// Reads a row as cells see it.
  void load(TypedView rows, std::int64_t row, float* values) const;
  /// Vectors here and below are relative to the origin.
  void pick_offsets(MatrixView<const float> sample, std::int64_t wanted);
  void refine_offsets(MatrixView<const float> sample, std::span<const std::uint32_t> cells);
  /// For searches of those from a cell on.
  void index_offsets(std::int64_t first);
  void nearest_offsets(MatrixView<const float> vectors, std::span<std::uint32_t> cells);
  bool excludes_most(MatrixView<const float> sample, std::span<const std::uint32_t> cells, const Isa& isa,
                     int threads);
  void sort_offsets();
  std::int64_t widest_value(std::span<const std::uint32_t> cells) const;
  void set_offset_squares(const Isa& isa);

  Metric metric_ = Metric::l2;
  std::int64_t d_ = 0;
  std::int64_t n_cells_ = 0;
  std::vector<float> origin_;
  std::vector<float> offsets_;
  std::vector<double> offset_squares_;
  std::unique_ptr<Index> index_;  // of the offsets
  std::vector<std::uint32_t> cell_of_row_;
};

/// Which cells may still hold rows for some queries.
class CellReach {
 public:
  void reserve(std::int64_t queries, std::int64_t cells, std::int64_t d);
  static std::int64_t bytes_for(std::int64_t queries, std::int64_t cells, std::int64_t d);
  std::size_t bytes() const;

  /// @param radii  every row of a cell is that near to its center
  /// @par Cost  a float32 product for each query and cell
  void begin(const RowCells& cells, std::span<const float> radii, Metric metric, const Isa& isa,
             MatrixView<const float> queries);

  /// All cells, those that are nearest to some query first.
  std::span<const std::uint32_t> order() const { return order_; }

  /// Rows with an exact score (see ScoreCut) below this are of no use to a query. Before it is set, all are.
  void set_cut(std::int64_t query, double cut);

  /// False if no row of a cell is of use to any of queries [begin, end).
  bool is_needed(std::int64_t cell, std::int64_t begin, std::int64_t end) const;

 private:
  struct Query {
    double squares = 0;  // rounded up
    double norm = 0;
    double limit = 0;  // l2: the distance of rows at the cut, rounded up; ip, cosine: -cut
  };

  void sort_cells();
  const float* away(std::int64_t cell) const { return away_.data() + cell * n_queries_; }

  Metric metric_ = Metric::l2;
  std::int64_t n_queries_ = 0;
  std::span<const float> radii_;
  std::vector<Query> queries_;
  std::vector<float> from_origin_;  // queries
  std::vector<double> squares_;     // l2: of those, rounded down
  std::vector<double> errors_;      // of what is away, relative to an offset's norm
  std::vector<float> away_;  // cell x query, rounded down: squared distance from the center; or -(q . center)
  std::vector<float> nearness_;  // one a cell
  std::vector<std::uint32_t> order_;
};

}  // namespace mpishards::kernels::cpu

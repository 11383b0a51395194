#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/plane.hpp"
#include "kernels/cpu/plane_format.hpp"
#include "kernels/cpu/row_cells.hpp"

namespace mpishards::kernels::cpu {

/// Places of a plane that follow each other, and what is known of all their rows; norms are rounded up.
struct PlaneBlock {
  std::int64_t begin = 0;  // a multiple of kPanelRows
  std::int64_t end = 0;
  std::int64_t cell = 0;  // of the rows, where the plane has cells
  double scale = 1;       // of one unit of the stored integers
  double norm = 0;        // of what is stored
  double residual = 0;    // norm of what packing lost
  double squares = 0;     // l2: |x'|^2 of the values that were packed

  void include(const PlaneBlock& other);
};

/// A row on its way to its place.
struct PlacedRow {
  std::uint32_t key;
  std::uint32_t row;
  auto operator<=>(const PlacedRow&) const = default;
};

/// How a plane orders its rows.
enum class RowOrder : std::uint8_t {
  by_bound,  // those that one scale holds as well beside each other: of scaled bytes by the largest value
  by_norm,   // the same; then rows of one bias beside each other, for the coarse test of 16 at a time
};

/// A base again in a narrow type, in the order that tiles are loaded: what is screened in place of the rows.
///
/// The plane holds x' = x - center (l2, ip) or x/|x| - center (cosine), rounded. What that loses is known for
/// each block of rows, and is part of the bound of every screened score. Rows have places of their own in a
/// plane, so that those of a block are alike: bounds are as wide as the worst row of a block. Blocks of one
/// cell follow each other; behind the last row of a block there may be places without rows.
/// @par Memory  2 (bf16) or 1 bytes a value in whole tiles, and 9 a row
class RowPlane {
 public:
  static constexpr std::int64_t kBlockRows = 2048;  // at most

  /// Packs rows; memory is kept. 8-bit integers, of whatever dtype, are packed as they are, unless `type` is
  /// another one. Other values become bytes or bfloat16, as `type` says, or a sample where rows are many.
  ///
  /// The plane is empty where it would prove nothing: norms beyond float32's range.
  /// @param cells  of the base, or empty ones; referred to as long as the plane is used
  /// @pre isa.plane != nullptr
  /// @par Cost  reads all rows twice; twice more where only a sample of them was of
  /// bytes; sorts their places
  void build(TypedView base, Metric metric, std::optional<PlaneType> type, const RowCells& cells,
             const Isa& isa, int threads);
  /// The same in a given format, in one cell.
  void build_as(TypedView base, Metric metric, const PlaneFormat& format, RowOrder order, const Isa& isa,
                int threads);
  void clear() { rows_ = 0; }

  bool is_empty() const { return rows_ == 0; }
  std::int64_t rows() const { return rows_; }
  std::int64_t places() const { return blocks_.back().end; }
  std::span<const PlaneBlock> blocks() const { return blocks_; }
  /// What the blocks' cells are of; null: there is one cell, without a center.
  const RowCells* cells() const { return cells_; }
  /// Of each cell's rows around its center, rounded up. @pre there are cells, here and below
  std::span<const float> radii() const { return radii_; }
  std::span<const PlaneBlock> blocks_of(std::int64_t cell) const;
  const PlaneFormat& format() const { return format_; }
  std::int64_t row_tiles() const { return cpu::row_tiles(format_.type, d_); }

  /// The row of the base at a place.
  std::int64_t row_at(std::int64_t place) const { return order_[static_cast<std::size_t>(place)]; }

  /// @param place  a multiple of kPanelRows
  const std::byte* panel(std::int64_t place) const {
    return bytes_.data() + place / kPanelRows * row_tiles() * 2 * kTileBytes;
  }
  /// At least |x| of every row of a block. @pre not cosine, whose rows have length one here
  double row_norm(const PlaneBlock& block) const;
  double center_norm() const { return center_norm_; }
  /// Over all blocks; without a scale.
  const PlaneBlock& maxima() const { return maxima_; }

  bool has_bias() const { return metric_ == Metric::l2; }
  /// From a place on: -|x'|^2/2, a float each, or an int32 rounded down where the plane is exact; as small as
  /// can be behind the last row. Null for other metrics.
  const void* bias(std::int64_t place) const { return has_bias() ? bias_.data() + place : nullptr; }
  /// The same, the largest of each 16. @param place  a multiple of kTileRows
  const void* group_bias(std::int64_t place) const {
    return has_bias() ? group_bias_.data() + place / kTileRows : nullptr;
  }

  std::size_t bytes() const {
    return bytes_.bytes() + order_.capacity() * sizeof(std::uint32_t) +
           (bias_.capacity() + group_bias_.capacity() + format_.center.capacity()) * sizeof(float) +
           blocks_.capacity() * sizeof(PlaneBlock) + radii_.capacity() * sizeof(float);
  }
  /// At most, whatever the format; with what building takes, but for some rows a thread.
  static std::int64_t bytes_for(std::int64_t rows, std::int64_t d);

 private:
  void build_in_cells(TypedView base, Metric metric, const PlaneFormat& format, RowOrder order,
                      const RowCells& cells, const Isa& isa, int threads);
  std::vector<PlacedRow> rows_by_cell() const;
  void sort_places(TypedView base, RowOrder order, const Isa& isa, int threads);
  void sort_rows(TypedView base, std::vector<PlacedRow>& rows, bool by_norm, const Isa& isa, int threads);
  double squares_from_center(std::int64_t cell, const double* values) const;
  PlaneBlock pack_block(TypedView base, const PlaneBlock& empty, const Isa& isa, double* values);
  void measure_cells(TypedView base, const Isa& isa, int threads);
  void set_bias(std::int64_t place, double squares);

  PlaneFormat format_;
  const RowCells* cells_ = nullptr;
  double center_norm_ = 0;  // rounded up
  Metric metric_ = Metric::l2;
  std::int64_t rows_ = 0;
  std::int64_t d_ = 0;
  Matrix bytes_;
  std::vector<std::uint32_t> order_;  // place -> row, where there is one
  std::vector<float> bias_;           // of exact planes the bits of an int32
  std::vector<float> group_bias_;
  std::vector<PlaneBlock> blocks_;  // by cell
  std::vector<float> radii_;
  PlaneBlock maxima_;
};

}  // namespace mpishards::kernels::cpu

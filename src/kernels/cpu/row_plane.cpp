#include "kernels/cpu/row_plane.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/cpu/exact_distances.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/plane_values.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/score_cut.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Sums of squares of magnitudes up to this, widened by the bounds, stay below float32's largest value.
constexpr double kLargestSquares = 1e36;
// Rows are read in no order of memory.
constexpr std::int64_t kRowsAhead = 4;

/// Orders as the value does. @pre not negative; what is no number comes last
std::uint32_t sortable(double value) {
  return value < kInfinity ? std::bit_cast<std::uint32_t>(static_cast<float>(value)) : ~std::uint32_t{0};
}

double value_of(std::uint32_t sortable) {
  return std::bit_cast<float>(sortable);
}

/// @param bias  of 16 rows; bits of integers where the plane is exact
float largest_bias(const float* bias, bool is_exact) {
  float largest = *bias;
  for (std::int64_t row = 1; row < kTileRows; ++row) {
    const bool is_larger = is_exact
                               ? std::bit_cast<std::int32_t>(bias[row]) > std::bit_cast<std::int32_t>(largest)
                               : bias[row] > largest;
    if (is_larger) largest = bias[row];
  }
  return largest;
}

/// Each cell ends a block.
std::int64_t most_blocks(std::int64_t rows) {
  return (rows + RowPlane::kBlockRows - 1) / RowPlane::kBlockRows + RowCells::cells_for(rows);
}

}  // namespace

void PlaneBlock::include(const PlaneBlock& other) {
  norm = std::max(norm, other.norm);
  residual = std::max(residual, other.residual);
  squares = std::max(squares, other.squares);
}

std::int64_t RowPlane::bytes_for(std::int64_t rows, std::int64_t d) {
  // Each cell ends a panel.
  const std::int64_t cells = RowCells::cells_for(rows);
  const std::int64_t padded = (panels_of(rows) + cells) * kPanelRows;
  const auto per_row =
      static_cast<std::int64_t>(2 * sizeof(float) + sizeof(std::uint32_t) + sizeof(PlacedRow));
  return plane_bytes(PlaneType::bf16, padded, d) + padded * per_row +
         (padded / kTileRows + d) * static_cast<std::int64_t>(sizeof(float)) +
         most_blocks(rows) * static_cast<std::int64_t>(sizeof(PlaneBlock)) +
         cells * static_cast<std::int64_t>(sizeof(float) + sizeof(std::size_t));
}

void RowPlane::build(TypedView base, Metric metric, std::optional<PlaneType> type, const RowCells& cells,
                     const Isa& isa, int threads) {
  clear();
  if (base.rows == 0) return;
  const std::optional<PlaneType> exact = exact_type_of(base, metric);
  if (exact.has_value() && type.value_or(*exact) == *exact) {
    build_in_cells(base, metric, {*exact, true, {}}, RowOrder::by_norm, cells, isa, threads);
    if (!is_empty()) return;
  }
  if (type == PlaneType::u8) return;
  build_in_cells(base, metric, lossy_format_of(base, metric, type, isa, threads), RowOrder::by_norm, cells,
                 isa, threads);
}

void RowPlane::build_as(TypedView base, Metric metric, const PlaneFormat& format, RowOrder order,
                        const Isa& isa, int threads) {
  build_in_cells(base, metric, format, order, RowCells(), isa, threads);
}

void RowPlane::build_in_cells(TypedView base, Metric metric, const PlaneFormat& format, RowOrder order,
                              const RowCells& cells, const Isa& isa, int threads) {
  format_ = format;
  cells_ = cells.is_empty() ? nullptr : &cells;
  metric_ = metric;
  rows_ = base.rows;
  d_ = base.cols;
  center_norm_ = format_.center.empty()
                     ? 0.0
                     : norm_range(isa.dot_product(format_.center.data(), format_.center.data(), d_), d_).high;
  sort_places(base, order, isa, threads);
  const auto n_blocks = std::ssize(blocks_);
  const std::int64_t padded = panels_of(places()) * kPanelRows;
  const std::int64_t needed = plane_bytes(format_.type, padded, d_);
  if (static_cast<std::int64_t>(bytes_.bytes()) < needed) {
    bytes_ = {};
    bytes_ = Matrix(DType::u8, 1, needed);
  }
  set_size(bias_, has_bias() ? padded : 0);
  set_size(group_bias_, has_bias() ? padded / kTileRows : 0);
  const std::int64_t width = padded_values(format_.type, d_);
  std::vector<double> values(static_cast<std::size_t>(width * threads), 0.0);
  double* const all_values = values.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread)
    for (std::int64_t block = n_blocks * thread / threads; block < n_blocks * (thread + 1) / threads; ++block)
      blocks_[static_cast<std::size_t>(block)] =
          pack_block(base, blocks_[static_cast<std::size_t>(block)], isa, all_values + width * thread);
  maxima_ = blocks_.front();
  const bool is_scaled = format_.type == PlaneType::s8 && !format_.is_exact;
  bool is_sound = !is_scaled || holds_sums_of_bytes(d_);
  for (const PlaneBlock& block : blocks_) {
    maxima_.include(block);
    is_sound = is_sound && block.norm * block.norm <= kLargestSquares && block.squares <= kLargestSquares &&
               block.residual < kInfinity &&
               !(format_.is_exact && (block.residual > 0 || block.squares > kLargestUnits));
  }
  if (!is_sound) return clear();
  measure_cells(base, isa, threads);
}

/// All rows, those of one cell beside each other; keys are cells.
std::vector<PlacedRow> RowPlane::rows_by_cell() const {
  std::vector<PlacedRow> rows(static_cast<std::size_t>(rows_));
  if (cells_ == nullptr) {
    for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = {0, static_cast<std::uint32_t>(row)};
    return rows;
  }
  const std::span<const std::uint32_t> cell_of_row = cells_->cell_of_row();
  std::vector<std::size_t> next(static_cast<std::size_t>(cells_->count()) + 1, 0);
  for (const std::uint32_t cell : cell_of_row) ++next[cell + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (std::size_t row = 0; row < rows.size(); ++row)
    rows[next[cell_of_row[row]]++] = {cell_of_row[row], static_cast<std::uint32_t>(row)};
  return rows;
}

void RowPlane::sort_places(TypedView base, RowOrder order, const Isa& isa, int threads) {
  const bool is_scaled = format_.type == PlaneType::s8 && !format_.is_exact;
  const bool by_norm = order == RowOrder::by_norm;
  std::vector<PlacedRow> rows = rows_by_cell();
  blocks_.clear();
  blocks_.reserve(static_cast<std::size_t>(most_blocks(rows_)));
  for (std::int64_t first = 0; first < rows_;) {
    const std::uint32_t cell = rows[static_cast<std::size_t>(first)].key;
    std::int64_t last = first;
    while (last < std::min(rows_, first + kBlockRows) && rows[static_cast<std::size_t>(last)].key == cell)
      ++last;
    const std::int64_t begin = blocks_.empty() ? 0 : panels_of(places()) * kPanelRows;
    blocks_.push_back({.begin = begin, .end = begin + last - first, .cell = cell});
    first = last;
  }
  if (is_scaled || by_norm) sort_rows(base, rows, by_norm, isa, threads);
  set_size(order_, places());
  auto row = rows.begin();
  for (const PlaneBlock& block : blocks_)
    for (std::int64_t place = block.begin; place < block.end; ++place)
      order_[static_cast<std::size_t>(place)] = row++->row;
}

/// Sorts rows inside their cells, and gives blocks their scales.
void RowPlane::sort_rows(TypedView base, std::vector<PlacedRow>& rows, bool by_norm, const Isa& isa,
                         int threads) {
  const bool is_scaled = format_.type == PlaneType::s8 && !format_.is_exact;
  std::vector<float> squares(is_scaled && by_norm ? rows.size() : 0);
  PlacedRow* const all_rows = rows.data();
  std::vector<float> floats(static_cast<std::size_t>(d_ * threads));
  float* const all_floats = floats.data();
  std::vector<double> values(static_cast<std::size_t>(d_ * threads));
  double* const all_values = values.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    const DefaultFloatEnvironment environment;
    const RowReader reader(base, metric_, format_.center, isa, all_floats + d_ * thread);
    double* const own_values = all_values + d_ * thread;
    for (std::int64_t i = rows_ * thread / threads; i < rows_ * (thread + 1) / threads; ++i) {
      const std::uint32_t row = all_rows[i].row;
      const CenteredSums sums = reader.read(row, own_values);
      if (!squares.empty()) squares[row] = static_cast<float>(sums.squares);
      all_rows[i].key = sortable(is_scaled ? sums.largest : sums.squares);
    }
  }
  auto first = rows.begin();
  for (std::size_t block = 0; block < blocks_.size();) {
    std::size_t next = block;
    std::int64_t in_cell = 0;
    for (; next < blocks_.size() && blocks_[next].cell == blocks_[block].cell; ++next)
      in_cell += blocks_[next].end - blocks_[next].begin;
    std::sort(first, first + in_cell);
    for (; block < next; ++block) {
      const auto last = first + (blocks_[block].end - blocks_[block].begin);
      if (is_scaled) blocks_[block].scale = byte_scale(value_of(std::prev(last)->key));
      if (!squares.empty()) {
        for (auto at = first; at != last; ++at) at->key = sortable(squares[at->row]);
        std::sort(first, last);
      }
      first = last;
    }
  }
}

double RowPlane::row_norm(const PlaneBlock& block) const {
  return (block.norm + block.residual + center_norm_) * kOutward;
}

void RowPlane::set_bias(std::int64_t place, double squares) {
  bias_[static_cast<std::size_t>(place)] =
      format_.is_exact ? std::bit_cast<float>(static_cast<std::int32_t>(std::floor(-squares / 2)))
                       : static_cast<float>(-squares / 2);
}

PlaneBlock RowPlane::pack_block(TypedView base, const PlaneBlock& empty, const Isa& isa, double* values) {
  const DefaultFloatEnvironment environment;
  const auto [begin, end] = std::pair(empty.begin, empty.end);
  std::vector<float> floats(static_cast<std::size_t>(base.cols));
  const RowReader reader(base, metric_, format_.center, isa, floats.data());
  PlaneBlock block = empty;
  std::byte* const bytes = bytes_.data();
  const std::int64_t tiles = row_tiles();
  std::vector<std::byte> packed(static_cast<std::size_t>(tiles * kTileRowBytes));
  double norm = 0;
  double residual = 0;
  double most_squares = 0;
  const std::int64_t padded_end = panels_of(end) * kPanelRows;
  for (std::int64_t place = begin; place < padded_end; ++place) {
    double own = format_.is_exact ? kLargestUnits : kInfinity;  // behind the last row
    if (place < end) {
      prefetch_row(base.row(row_at(std::min(place + kRowsAhead, end - 1))), base.row_bytes());
      const CenteredSums sums = reader.read(row_at(place), values);
      const PackedSquares squares =
          isa.plane->quantize(format_.type, values, tiles, block.scale, packed.data());
      norm = std::max(norm, squares.values);
      residual = std::max(residual, squares.residual);
      if (!(squares.residual < kInfinity)) residual = kInfinity;
      if (has_bias()) {
        own = sums.squares;
        most_squares = std::max(most_squares, own);
        if (format_.is_exact && !(own <= kLargestUnits)) own = kLargestUnits;  // also of what is no number
      }
    } else {
      std::ranges::fill(packed, std::byte{0});
    }
    if (has_bias()) set_bias(place, own);
    std::byte* out = bytes + place / kTileRows % 2 * kTileBytes + place % kTileRows * kTileRowBytes +
                     place / kPanelRows * tiles * 2 * kTileBytes;
    for (std::int64_t tile = 0; tile < tiles; ++tile, out += 2 * kTileBytes)
      std::memcpy(out, packed.data() + tile * kTileRowBytes, kTileRowBytes);
  }
  if (has_bias())
    for (std::int64_t group = begin / kTileRows; group < padded_end / kTileRows; ++group)
      group_bias_[static_cast<std::size_t>(group)] =
          largest_bias(bias_.data() + group * kTileRows, format_.is_exact);
  block.norm = norm_range(norm, d_).high;
  block.residual = norm_range(residual, d_).high;
  block.squares = most_squares * kOutward;
  return block;
}

/// Finds the radii.
void RowPlane::measure_cells(TypedView base, const Isa& isa, int threads) {
  radii_.clear();
  if (cells_ == nullptr) return;
  radii_.resize(static_cast<std::size_t>(cells_->count()), 0.0f);
  // Of the double operations in sums and in differences from centers.
  const double slack = static_cast<double>(d_ + 16) * 0x1p-51;
  const double origin_norm = std::sqrt(isa.dot_product(cells_->origin(), cells_->origin(), d_));
  std::vector<float> floats(static_cast<std::size_t>(d_ * threads));
  std::vector<double> values(static_cast<std::size_t>(d_ * threads));
  float* const all_floats = floats.data();
  double* const all_values = values.data();
  const std::int64_t n_cells = cells_->count();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    const DefaultFloatEnvironment environment;
    const RowReader reader(base, metric_, {}, isa, all_floats + d_ * thread);
    double* const own = all_values + d_ * thread;
    for (std::int64_t cell = n_cells * thread / threads; cell < n_cells * (thread + 1) / threads; ++cell) {
      double farthest = 0;
      double norms = origin_norm + std::sqrt(cells_->offset_squares(cell));
      for (const PlaneBlock& block : blocks_of(cell)) {
        norms = std::max(norms, block.norm + block.residual + center_norm_);
        for (std::int64_t place = block.begin; place < block.end; ++place) {
          prefetch_row(base.row(row_at(std::min(place + kRowsAhead, block.end - 1))), base.row_bytes());
          reader.read(row_at(place), own);
          farthest = std::max(farthest, squares_from_center(cell, own));
        }
      }
      radii_[static_cast<std::size_t>(cell)] =
          round_up((std::sqrt(farthest) + 2 * slack * norms) * (1 + slack));
    }
  }
}

std::span<const PlaneBlock> RowPlane::blocks_of(std::int64_t cell) const {
  const auto found = std::ranges::equal_range(blocks_, cell, {}, &PlaneBlock::cell);
  return {found.begin(), found.end()};
}

/// |x - c|^2 of a row, or of x/|x|.
double RowPlane::squares_from_center(std::int64_t cell, const double* values) const {
  const float* const origin = cells_->origin();
  const float* const offset = cells_->offset(cell);
  double sum = 0;
  for (std::int64_t i = 0; i < d_; ++i) {
    const double difference = values[i] - origin[i] - offset[i];
    sum += difference * difference;
  }
  return sum;
}
}  // namespace mpishards::kernels::cpu

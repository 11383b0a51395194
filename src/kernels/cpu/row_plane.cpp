#include "kernels/cpu/row_plane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "core/convert.hpp"
#include "kernels/cpu/exact_distances.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/score_cut.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFloatRounding = 0x1p-24;
// Tile sums flush results below this to zero.
constexpr double kSmallestNormalFloat = 0x1p-126;
// Sums of squares and of products of magnitudes up to these, widened by the bounds, stay below float32's
// largest value.
constexpr double kLargestSquares = 1e36;
constexpr double kLargestProduct = 1e37;
constexpr double kLargestUnits = 0x1p30;
// Room for the few double operations of a bound itself.
constexpr double kOutward = 1 + 0x1p-40;

constexpr std::int64_t kCenterRows = 1024;
constexpr std::int64_t kByteSampleRows = 256;
// By which the type of a plane is chosen.
constexpr std::int64_t kLeastRowsOfBytes = 8192;
constexpr std::int64_t kMostSampleRows = 65536;
constexpr std::int64_t kLeastStride = 8;
constexpr std::int64_t kSampleQueries = 16;
constexpr std::int64_t kSampleNeighbors = 4;
constexpr double kMostExtraCandidates = 6;  // for each neighbor
// Rows are read in no order of memory.
constexpr std::int64_t kRowsAhead = 4;

/// A row in double, as a plane of this metric and center sees it.
class RowReader {
 public:
  RowReader(TypedView base, Metric metric, std::span<const float> center, const Isa& isa, float* floats)
      : base_(base), metric_(metric), center_(center), isa_(isa), floats_(floats) {}

  void read(std::int64_t row, double* values) const {
    const float* const x = floats_of(row);
    double factor = 1;
    if (metric_ == Metric::cosine) {
      const double squares = isa_.dot_product(x, x, base_.cols);
      factor = squares > 0 ? 1 / std::sqrt(squares) : 0;
    }
    if (center_.empty())
      for (std::int64_t i = 0; i < base_.cols; ++i) values[i] = factor * x[i];
    else
      for (std::int64_t i = 0; i < base_.cols; ++i)
        values[i] = factor * x[i] - center_[static_cast<std::size_t>(i)];
  }

 private:
  const float* floats_of(std::int64_t row) const {
    if (base_.dtype == DType::f32) return base_.as<const float>().row(row);
    to_float32(base_.dtype, base_.row(row), base_.cols, floats_);
    return floats_;
  }

  TypedView base_;
  Metric metric_;
  std::span<const float> center_;
  const Isa& isa_;
  float* floats_;
};

/// The mean of rows spread over the base.
std::vector<float> center_of(TypedView base, Metric metric, const Isa& isa) {
  std::vector<float> floats(static_cast<std::size_t>(base.cols));
  std::vector<double> values(floats.size());
  std::vector<double> sums(floats.size(), 0.0);
  const RowReader reader(base, metric, {}, isa, floats.data());
  const std::int64_t rows = std::min(base.rows, kCenterRows);
  for (std::int64_t i = 0; i < rows; ++i) {
    reader.read(i * (base.rows / rows), values.data());
    for (std::size_t at = 0; at < sums.size(); ++at) sums[at] += values[at];
  }
  std::vector<float> center(sums.size());
  std::ranges::transform(sums, center.begin(), [rows](double sum) {
    const double mean = sum / static_cast<double>(rows);
    return std::abs(mean) < std::numeric_limits<float>::max() ? static_cast<float>(mean) : 0.0f;
  });
  return center;
}

/// The type of bytes that hold all values of a sample of rows as they are, if there is one.
std::optional<PlaneType> exact_type_of(TypedView base, Metric metric) {
  if (metric == Metric::cosine) return std::nullopt;
  if (base.dtype == DType::u8) return PlaneType::u8;
  if (base.dtype == DType::i8) return PlaneType::s8;
  std::vector<float> floats(static_cast<std::size_t>(base.cols));
  float low = 0;
  float high = 0;
  const std::int64_t rows = std::min(base.rows, kByteSampleRows);
  for (std::int64_t i = 0; i < rows; ++i) {
    to_float32(base.dtype, base.row(i * (base.rows / rows)), base.cols, floats.data());
    if (std::ranges::any_of(floats, [](float value) { return value != std::floor(value); }))
      return std::nullopt;
    low = std::min(low, *std::ranges::min_element(floats));
    high = std::max(high, *std::ranges::max_element(floats));
  }
  if (low >= 0 && high <= 255) return PlaneType::u8;
  if (low >= -128 && high <= 127) return PlaneType::s8;
  return std::nullopt;
}

// Four chains: one would wait for each of its own results.
constexpr std::int64_t kChains = 4;

double largest_magnitude(const double* values, std::int64_t count) {
  double largest[kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains <= count; i += kChains)
    for (std::int64_t chain = 0; chain < kChains; ++chain)
      largest[chain] = std::max(largest[chain], std::abs(values[i + chain]));
  for (; i < count; ++i) largest[0] = std::max(largest[0], std::abs(values[i]));
  return std::max({largest[0], largest[1], largest[2], largest[3]});
}

double sum_of_squares(const double* values, std::int64_t count) {
  double sums[kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains <= count; i += kChains)
    for (std::int64_t chain = 0; chain < kChains; ++chain)
      sums[chain] += values[i + chain] * values[i + chain];
  for (; i < count; ++i) sums[0] += values[i] * values[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

std::int64_t padded_values(PlaneType type, std::int64_t d) {
  return row_tiles(type, d) * kTileRowBytes / bytes_per_value(type);
}

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

double scale_of(double largest) {
  constexpr double kLargestByte = 127;
  return largest > 0 && largest < kInfinity ? largest / kLargestByte : 1.0;
}

/// A vector as a type packs it, with a scale of its own.
struct Packing {
  float norm = 0;      // of what is packed
  float residual = 0;  // of what is lost
};

/// By which the type of a plane is chosen: exact scores of some queries with a sample of the rows, and what
/// each type would lose of both.
class TypeSample {
 public:
  TypeSample(TypedView base, Metric metric, std::span<const float> center, const Isa& isa, int threads)
      : isa_(isa),
        rows_(std::min(kMostSampleRows, base.rows / kLeastStride)),
        rows_as_bytes_(static_cast<std::size_t>(rows_)),
        rows_as_bf16_(rows_as_bytes_.size()),
        scores_(static_cast<std::size_t>(kSampleQueries * rows_)) {
    const std::int64_t d = base.cols;
    const std::int64_t width = padded_values(PlaneType::s8, d);
    const std::int64_t packed_bytes = row_tiles(PlaneType::bf16, d) * kTileRowBytes;
    std::vector<float> queries(static_cast<std::size_t>(kSampleQueries * d));
    std::vector<float> floats(static_cast<std::size_t>(d * 2 * threads));
    std::vector<double> values(static_cast<std::size_t>(threads * width), 0.0);
    std::vector<std::byte> bytes(static_cast<std::size_t>(threads * packed_bytes));
    // The centered vector and how each type packs it; differences from what is known of a query change
    // nothing.
    const auto load = [&](int thread, std::int64_t row, float* centered, Packing& as_bytes,
                          Packing& as_bf16) {
      double* const own = values.data() + thread * width;
      const RowReader reader(base, metric, center, isa, floats.data() + d * 2 * thread + d);
      reader.read(row, own);
      std::transform(own, own + d, centered, [](double value) { return static_cast<float>(value); });
      as_bytes = packing_of(PlaneType::s8, own, d, bytes.data() + thread * packed_bytes);
      as_bf16 = packing_of(PlaneType::bf16, own, d, bytes.data() + thread * packed_bytes);
    };
    const std::int64_t stride = base.rows / rows_;
    for (std::int64_t q = 0; q < kSampleQueries; ++q)
      load(0, q * (base.rows / kSampleQueries) + stride / 2, queries.data() + q * d,
           queries_as_bytes_[static_cast<std::size_t>(q)], queries_as_bf16_[static_cast<std::size_t>(q)]);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; ++thread)
      for (std::int64_t row = rows_ * thread / threads; row < rows_ * (thread + 1) / threads; ++row) {
        const auto i = static_cast<std::size_t>(row);
        float* const centered = floats.data() + d * 2 * thread;
        load(thread, row * stride, centered, rows_as_bytes_[i], rows_as_bf16_[i]);
        const double bias = metric == Metric::l2 ? -isa.dot_product(centered, centered, d) / 2 : 0.0;
        for (std::int64_t q = 0; q < kSampleQueries; ++q)
          scores_[static_cast<std::size_t>(q * rows_ + row)] =
              static_cast<float>(isa.dot_product(queries.data() + q * d, centered, d) + bias);
      }
  }

  /// How many rows a screen could not exclude from each query's nearest ones, for each of those.
  double candidates_as_bytes() const {
    return candidates(queries_as_bytes_, rows_as_bytes_);
  }
  double candidates_as_bf16() const {
    return candidates(queries_as_bf16_, rows_as_bf16_);
  }

 private:
  using Queries = std::array<Packing, kSampleQueries>;

  Packing packing_of(PlaneType type, const double* values, std::int64_t d, std::byte* bytes) const {
    const double scale = type == PlaneType::bf16 ? 1.0 : scale_of(largest_magnitude(values, d));
    const PackedSquares squares = isa_.plane->quantize(type, values, row_tiles(type, d), scale, bytes);
    return {static_cast<float>(std::sqrt(squares.values)), static_cast<float>(std::sqrt(squares.residual))};
  }

  double candidates(const Queries& queries, const std::vector<Packing>& rows) const {
    std::vector<float> lowers(rows.size());
    std::int64_t count = 0;
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const float* const scores = scores_.data() + q * rows.size();
      const auto error = [&](std::size_t row) {
        return (queries[q].norm + queries[q].residual) * rows[row].residual +
               queries[q].residual * rows[row].norm;
      };
      for (std::size_t row = 0; row < rows.size(); ++row) lowers[row] = scores[row] - error(row);
      const float cut = isa_.kth_largest(lowers.data(), rows_, kSampleNeighbors);
      // What is screened may be above the exact score, and the bound above that.
      for (std::size_t row = 0; row < rows.size(); ++row) count += scores[row] + 2 * error(row) >= cut;
    }
    return static_cast<double>(count) / (kSampleQueries * kSampleNeighbors);
  }

  const Isa& isa_;
  std::int64_t rows_;
  std::vector<Packing> rows_as_bytes_;
  std::vector<Packing> rows_as_bf16_;
  Queries queries_as_bytes_;
  Queries queries_as_bf16_;
  std::vector<float> scores_;
};

/// True where int32 holds any sum of d products of two bytes.
bool holds_sums_of_bytes(std::int64_t d) {
  constexpr std::int64_t kLargestByteProduct = std::int64_t{128} * 128;
  return padded_values(PlaneType::s8, d) <= std::numeric_limits<std::int32_t>::max() / kLargestByteProduct;
}

/// Bytes are half as much to read and to multiply, but their bounds are wide: they pay as long as they leave
/// only a few more candidates.
PlaneType quicker_type(TypedView base, Metric metric, std::span<const float> center, const Isa& isa,
                       int threads) {
  const bool is_shorter = row_tiles(PlaneType::s8, base.cols) < row_tiles(PlaneType::bf16, base.cols);
  if (!is_shorter || !holds_sums_of_bytes(base.cols) || base.rows < kLeastRowsOfBytes) return PlaneType::bf16;
  const TypeSample sample(base, metric, center, isa, threads);
  return sample.candidates_as_bytes() <= sample.candidates_as_bf16() + kMostExtraCandidates ? PlaneType::s8
                                                                                            : PlaneType::bf16;
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
  std::vector<float> center = center_of(base, metric, isa);
  const PlaneType chosen = type.has_value() ? *type : quicker_type(base, metric, center, isa, threads);
  build_in_cells(base, metric, {chosen, false, std::move(center)}, RowOrder::by_norm, cells, isa, threads);
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
      reader.read(row, own_values);
      const double norm = by_norm ? sum_of_squares(own_values, d_) : 0.0;
      if (!squares.empty()) squares[row] = static_cast<float>(norm);
      all_rows[i].key = sortable(is_scaled ? largest_magnitude(own_values, d_) : norm);
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
      if (is_scaled) blocks_[block].scale = scale_of(value_of(std::prev(last)->key));
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
      reader.read(row_at(place), values);
      const PackedSquares squares =
          isa.plane->quantize(format_.type, values, tiles, block.scale, packed.data());
      norm = std::max(norm, squares.values);
      residual = std::max(residual, squares.residual);
      if (!(squares.residual < kInfinity)) residual = kInfinity;
      if (has_bias()) {
        own = sum_of_squares(values, d_);
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

void PlaneQueries::reserve(std::int64_t queries, std::int64_t d, std::int64_t sample_rows, const Isa& isa) {
  const auto grow = [](Matrix& memory, std::int64_t bytes) {
    if (static_cast<std::int64_t>(memory.bytes()) < bytes) memory = Matrix(DType::u8, 1, bytes);
  };
  set_size(queries_, queries);
  set_size(errors_, padded_queries(queries));
  set_size(row_, row_tiles(PlaneType::bf16, d) * kTileRowBytes);
  set_size(values_, padded_values(PlaneType::s8, d));
  grow(packed_, plane_bytes(PlaneType::bf16, queries, d));
  grow(units_, padded_queries(queries) * static_cast<std::int64_t>(sizeof(float)));
  grow(scratch_, isa.plane->scratch_bytes(queries, row_tiles(PlaneType::bf16, d)));
  grow(groups_, group_bytes(queries, sample_rows));
}

std::int64_t PlaneQueries::bytes_for(std::int64_t queries, std::int64_t d, std::int64_t sample_rows,
                                     const Isa& isa) {
  return group_bytes(queries, sample_rows) + queries * static_cast<std::int64_t>(sizeof(Query)) +
         padded_queries(queries) * static_cast<std::int64_t>(sizeof(float)) +
         padded_values(PlaneType::s8, d) * static_cast<std::int64_t>(sizeof(double)) +
         plane_bytes(PlaneType::bf16, queries, d) + row_tiles(PlaneType::bf16, d) * kTileRowBytes +
         padded_queries(queries) * static_cast<std::int64_t>(sizeof(float)) +
         isa.plane->scratch_bytes(queries, row_tiles(PlaneType::bf16, d));
}

std::size_t PlaneQueries::bytes() const {
  return bytes_of(queries_) + bytes_of(errors_) + bytes_of(values_) + bytes_of(row_) + packed_.bytes() +
         units_.bytes() + scratch_.bytes() + groups_.bytes();
}

bool PlaneQueries::begin(const RowPlane& plane, Metric metric, const Isa& isa,
                         MatrixView<const float> queries, double error_factor) {
  const PlaneFormat& format = plane.format();
  const std::int64_t d = queries.cols;
  const bool is_bf16 = format.type == PlaneType::bf16;
  is_exact_ = format.is_exact;
  isa_ = &isa;
  type_ = format.type;
  n_queries_ = queries.rows;
  has_bias_ = plane.has_bias();
  error_factor_ = error_factor;
  // Each value goes through at most as many roundings as the row has values, in whichever order; they are
  // counted twice as large as they are.
  const std::int64_t width = padded_values(format.type, d);
  gamma_ = is_bf16 ? rounding_gamma(width + kTileRowBytes, 2 * kFloatRounding) : 4 * kFloatRounding;
  underflow_ = static_cast<double>(3 * width + kTileRowBytes) * kSmallestNormalFloat;
  if (!(gamma_ < kInfinity)) return false;

  const auto load = [&](std::int64_t q) {
    const float* const row = queries.row(q);
    const bool is_centered = metric == Metric::l2 && !format.center.empty();
    for (std::int64_t i = 0; i < d; ++i)
      values_[static_cast<std::size_t>(i)] =
          is_centered ? static_cast<double>(row[i]) - format.center[static_cast<std::size_t>(i)] : row[i];
    std::fill(values_.begin() + d, values_.begin() + width, 0.0);
  };
  const double center_norm = plane.center_norm();
  std::memset(packed_.data(), 0, static_cast<std::size_t>(plane_bytes(type_, n_queries_, d)));
  largest_norm_ = 0;
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    Query& query = queries_[static_cast<std::size_t>(q)];
    const float* const row = queries.row(q);
    load(q);
    query.scale = is_scaled() ? scale_of(largest_magnitude(values_.data(), d)) : 1.0;
    const PackedSquares squares =
        isa.plane->quantize(type_, values_.data(), plane.row_tiles(), query.scale, row_.data());
    if (format.is_exact && squares.residual > 0) return false;
    query.norm = norm_range(sum_of_squares(values_.data(), d), d).high;
    query.residual = norm_range(squares.residual, d).high;
    query.packed_norm = norm_range(squares.values, d).high;
    query.offset = 0;
    if (!format.center.empty()) {
      query.offset = isa.dot_product(row, format.center.data(), d);
      if (metric == Metric::l2) query.offset -= center_norm * center_norm / 2;
    }
    // Of the offset, of differences from the center, and of norms of one: each a few roundings in double.
    const double query_norm = norm_range(isa.dot_product(row, row, d), d).high;
    const double slack = static_cast<double>(d + 64) * 0x1p-51;
    query.offset_error = slack * ((query_norm + center_norm) * (center_norm + plane.maxima().norm) +
                                  plane.maxima().squares + (metric == Metric::cosine ? query_norm : 0.0));
    largest_norm_ = std::max(largest_norm_, query.packed_norm);
    if (!(query.norm < kInfinity && query.residual < kInfinity)) return false;
    pack(q, row_.data(), plane.row_tiles());
  }
  return fits(plane);
}

bool PlaneQueries::fits(const RowPlane& plane) const {
  if (!is_exact_) return largest_norm_ * plane.maxima().norm <= kLargestProduct;
  return largest_norm_ * plane.maxima().norm + plane.maxima().squares / 2 <= kLargestUnits;
}

void PlaneQueries::pack(std::int64_t query, const std::byte* row, std::int64_t row_tiles) {
  constexpr std::int64_t kWord = 4;
  std::byte* out = packed_.data() + query / kPanelRows * row_tiles * 2 * kTileBytes +
                   query / kTileRows % 2 * kTileBytes + query % kTileRows * kWord;
  for (std::int64_t tile = 0; tile < row_tiles; ++tile, out += 2 * kTileBytes)
    for (std::int64_t word = 0; word < kTileRowBytes / kWord; ++word, row += kWord)
      std::memcpy(out + word * kTileRowBytes, row, kWord);
}

double PlaneQueries::error(std::int64_t q, const PlaneBlock& block) const {
  const Query& query = queries_[static_cast<std::size_t>(q)];
  // With x' = x~ + rx, q' = q~ + rq: q'.x' - q~.x~ = q'.rx + rq.x~, by Cauchy-Schwarz.
  const double lost = query.norm * block.residual + query.residual * block.norm;
  const double half_squares = block.squares / 2;
  double summed = gamma_ * (query.packed_norm * block.norm + half_squares) + underflow_;
  if (has_bias_) summed += is_exact_ ? 1.0 : kFloatRounding * half_squares;  // the bias' own rounding
  return (lost + summed + query.offset_error) * kOutward * error_factor_;
}

PlaneTile PlaneQueries::tile_of(const RowPlane& plane, const PlaneBlock& block, std::int64_t begin,
                                std::int64_t end, Range queries) {
  PlaneTile tile;
  tile.type = type_;
  tile.row_tiles = plane.row_tiles();
  tile.queries = packed_.data() + queries.begin / kPanelRows * tile.row_tiles * 2 * kTileBytes;
  tile.n_queries = queries.end - queries.begin;
  tile.rows = plane.panel(begin);
  tile.n_rows = end - begin;
  tile.bias = plane.bias(begin);
  tile.group_bias = plane.group_bias(begin);
  if (is_scaled()) {
    auto* const units = units_.as<float>().data;
    for (std::int64_t q = queries.begin; q < queries.end; ++q)
      units[q] = static_cast<float>(queries_[static_cast<std::size_t>(q)].scale * block.scale);
    std::fill(units + queries.end, units + padded_queries(queries.end), 0.0f);
    tile.units = units + queries.begin;
  }
  tile.scratch = scratch_.data();
  return tile;
}

void PlaneQueries::screen(const RowPlane& plane, const PlaneBlock& block, std::int64_t begin,
                          std::int64_t end, Range queries, const float* thresholds, CandidateSink& sink) {
  PlaneTile tile = tile_of(plane, block, begin, end, queries);
  tile.thresholds = thresholds + queries.begin;
  isa_->plane->run(tile, sink);
}

void PlaneQueries::kth_scores(const RowPlane& plane, std::int64_t k, float* scores) {
  struct NoHits final : CandidateSink {
    void add(std::int64_t, std::int64_t, float) override {}
  } nothing;
  auto* const groups = reinterpret_cast<float*>(groups_.data());
  const std::int64_t n_groups = plane.rows() / kTileRows;
  const std::int64_t query_tiles = padded_queries(n_queries_) / kTileRows;
  // Half panels leave columns that no tile fills.
  std::fill_n(groups, query_tiles * n_groups * kTileRows, 0.0f);
  for (const PlaneBlock& block : plane.blocks()) {
    const auto [begin, end] = std::pair(block.begin, block.end);
    PlaneTile tile = tile_of(plane, block, begin, end, {0, n_queries_});
    tile.group_maxima = groups + begin;
    tile.groups = n_groups;
    isa_->plane->run(tile, nothing);
    for (std::int64_t q = 0; q < n_queries_; ++q)
      errors_[static_cast<std::size_t>(q)] = round_up(error(q, block));
    for (std::int64_t q = 0; q < query_tiles; ++q)
      for (std::int64_t group = begin / kTileRows; group < end / kTileRows; ++group)
        for (std::int64_t lane = 0; lane < kTileRows; ++lane)
          groups[(q * n_groups + group) * kTileRows + lane] -=
              errors_[static_cast<std::size_t>(q * kTileRows + lane)];
  }
  for (std::int64_t q = 0; q < query_tiles; ++q)
    isa_->plane->kth_largest(groups + q * n_groups * kTileRows, n_groups, k, scores + q * kTileRows);
  for (std::int64_t q = 0; q < n_queries_; ++q)
    scores[q] = round_down(scores[q] - std::abs(scores[q]) * 2 * kFloatRounding - kSmallestNormalFloat);
}

}  // namespace mpishards::kernels::cpu

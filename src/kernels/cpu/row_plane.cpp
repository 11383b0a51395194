#include "kernels/cpu/row_plane.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/convert.hpp"
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
constexpr std::int64_t kSampleRows = 4096;
constexpr std::int64_t kSampleQueries = 64;
constexpr std::int64_t kSampleNeighbors = 4;
constexpr double kMostGrowth = 1.7;

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

double largest_magnitude(const double* values, std::int64_t count) {
  double largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

std::int64_t padded_values(PlaneType type, std::int64_t d) {
  return row_tiles(type, d) * kTileRowBytes / bytes_per_value(type);
}

double scale_of(double largest) {
  constexpr double kLargestByte = 127;
  return largest > 0 ? largest / kLargestByte : 1.0;
}

/// Rows spread over the base, from row `shift` on.
Matrix sample_of(TypedView base, std::int64_t rows, std::int64_t shift) {
  Matrix sample(base.dtype, rows, base.cols);
  for (std::int64_t i = 0; i < rows; ++i)
    std::memcpy(sample.data() + static_cast<std::size_t>(i) * base.row_bytes(),
                base.row(i * (base.rows / rows) + shift), base.row_bytes());
  return sample;
}

/// How many rows of a sample a screen could not exclude from the nearest few of other rows.
std::int64_t candidates_in(TypedView sample, MatrixView<const float> queries, Metric metric,
                           const PlaneFormat& format, const Isa& isa) {
  struct Counter final : CandidateSink {
    std::int64_t count = 0;
    void add(std::int64_t, std::int64_t, float) override { ++count; }
  } counter;
  RowPlane plane;
  plane.build_as(sample, metric, format, isa, 1);
  PlaneQueries packed;
  packed.reserve(queries.rows, queries.cols, sample.rows, isa);
  if (plane.is_empty() || !packed.begin(plane, metric, isa, queries, 1)) return sample.rows * queries.rows;
  std::vector<float> thresholds(static_cast<std::size_t>(padded_queries(queries.rows)));
  packed.kth_scores(plane, kSampleNeighbors, thresholds.data());
  for (std::int64_t q = 0; q < queries.rows; ++q)
    thresholds[static_cast<std::size_t>(q)] -= static_cast<float>(2 * packed.error(q, plane.maxima()));
  for (std::int64_t begin = 0; begin < sample.rows; begin += RowPlane::kBlockRows)
    packed.screen(plane, begin, std::min(sample.rows, begin + RowPlane::kBlockRows), thresholds.data(),
                  counter);
  return counter.count;
}

/// Bytes are half as much to read and twice as fast to multiply, but their bounds are wide: they pay as long
/// as they leave no more than a few times the candidates.
PlaneType quicker_type(TypedView base, Metric metric, const std::vector<float>& center, const Isa& isa) {
  if (base.rows < 2 * kSampleRows) return PlaneType::bf16;
  const Matrix sample = sample_of(base, kSampleRows, 0);
  const Matrix queries = to_float32(sample_of(base, kSampleQueries, base.rows / kSampleRows / 2));
  const auto query_view =
      MatrixView<const float>{reinterpret_cast<const float*>(queries.data()), kSampleQueries, base.cols};
  const std::int64_t as_bytes =
      candidates_in(sample.view(), query_view, metric, {PlaneType::s8, false, center}, isa);
  const std::int64_t as_bf16 =
      candidates_in(sample.view(), query_view, metric, {PlaneType::bf16, false, center}, isa);
  return static_cast<double>(as_bytes) <= kMostGrowth * static_cast<double>(as_bf16) ? PlaneType::s8
                                                                                     : PlaneType::bf16;
}

}  // namespace

void PlaneBlock::include(const PlaneBlock& other) {
  scale = std::max(scale, other.scale);
  norm = std::max(norm, other.norm);
  residual = std::max(residual, other.residual);
  squares = std::max(squares, other.squares);
}

std::int64_t RowPlane::bytes_for(std::int64_t rows, std::int64_t d) {
  const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  return plane_bytes(PlaneType::bf16, rows, d) + (rows + d) * static_cast<std::int64_t>(sizeof(float)) +
         blocks * static_cast<std::int64_t>(sizeof(PlaneBlock));
}

void RowPlane::build(TypedView base, Metric metric, std::optional<PlaneType> type, const Isa& isa,
                     int threads) {
  clear();
  if (base.rows == 0) return;
  const std::optional<PlaneType> exact = exact_type_of(base, metric);
  if (exact.has_value() && type.value_or(*exact) == *exact) {
    build_as(base, metric, {*exact, true, {}}, isa, threads);
    if (!is_empty()) return;
  }
  if (type == PlaneType::u8) return;
  std::vector<float> center = center_of(base, metric, isa);
  const PlaneType chosen = type.has_value() ? *type : quicker_type(base, metric, center, isa);
  build_as(base, metric, {chosen, false, std::move(center)}, isa, threads);
}

void RowPlane::build_as(TypedView base, Metric metric, const PlaneFormat& format, const Isa& isa,
                        int threads) {
  format_ = format;
  metric_ = metric;
  rows_ = base.rows;
  d_ = base.cols;
  const std::int64_t needed = plane_bytes(format_.type, rows_, d_);
  if (static_cast<std::int64_t>(bytes_.bytes()) < needed) {
    bytes_ = {};
    bytes_ = Matrix(DType::u8, 1, needed);
  }
  set_size(bias_, has_bias() ? rows_ : 0);
  const std::int64_t n_blocks = (rows_ + kBlockRows - 1) / kBlockRows;
  blocks_.assign(static_cast<std::size_t>(n_blocks), {});
  const std::int64_t width = padded_values(format_.type, d_);
  std::vector<double> values(static_cast<std::size_t>(width * threads), 0.0);
  double* const all_values = values.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread)
    for (std::int64_t block = n_blocks * thread / threads; block < n_blocks * (thread + 1) / threads; ++block)
      blocks_[static_cast<std::size_t>(block)] = pack_block(base, block, isa, all_values + width * thread);
  maxima_ = blocks_.front();
  bool is_sound = true;
  for (const PlaneBlock& block : blocks_) {
    maxima_.include(block);
    is_sound = is_sound && block.norm * block.norm <= kLargestSquares && block.squares <= kLargestSquares &&
               block.residual < kInfinity &&
               !(format_.is_exact && (block.residual > 0 || block.squares > kLargestUnits));
  }
  if (!is_sound) clear();
}

PlaneBlock RowPlane::pack_block(TypedView base, std::int64_t number, const Isa& isa, double* values) {
  const DefaultFloatEnvironment environment;
  const std::int64_t begin = number * kBlockRows;
  const std::int64_t end = std::min(rows_, begin + kBlockRows);
  std::vector<float> floats(static_cast<std::size_t>(base.cols));
  const RowReader reader(base, metric_, format_.center, isa, floats.data());
  PlaneBlock block;
  if (format_.type != PlaneType::bf16 && !format_.is_exact) {
    double largest = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      reader.read(row, values);
      largest = std::max(largest, largest_magnitude(values, d_));
    }
    block.scale = scale_of(largest);
  }
  std::byte* const bytes = bytes_.data();
  const std::int64_t tiles = row_tiles();
  std::vector<std::byte> packed(static_cast<std::size_t>(tiles * kTileRowBytes));
  double norm = 0;
  double residual = 0;
  double most_squares = 0;
  const std::int64_t padded_end = panels_of(end) * kPanelRows;
  for (std::int64_t row = begin; row < padded_end; ++row) {
    if (row < end) {
      reader.read(row, values);
      const PackedSquares squares =
          isa.plane->quantize(format_.type, values, tiles, block.scale, packed.data());
      norm = std::max(norm, squares.values);
      residual = std::max(residual, squares.residual);
      if (!(squares.residual < kInfinity)) residual = kInfinity;
      if (has_bias()) {
        double own = 0;
        for (std::int64_t i = 0; i < d_; ++i) own += values[i] * values[i];
        most_squares = std::max(most_squares, own);
        float& bias = bias_[static_cast<std::size_t>(row)];
        bias = format_.is_exact ? std::bit_cast<float>(static_cast<std::int32_t>(
                                      std::floor(-std::min(own, kLargestUnits) / 2)))
                                : static_cast<float>(-own / 2);
      }
    } else {
      std::ranges::fill(packed, std::byte{0});
    }
    std::byte* out = bytes + row / kTileRows % 2 * kTileBytes + row % kTileRows * kTileRowBytes +
                     row / kPanelRows * tiles * 2 * kTileBytes;
    for (std::int64_t tile = 0; tile < tiles; ++tile, out += 2 * kTileBytes)
      std::memcpy(out, packed.data() + tile * kTileRowBytes, kTileRowBytes);
  }
  block.norm = norm_range(norm, d_).high;
  block.residual = norm_range(residual, d_).high;
  block.squares = most_squares * kOutward;
  return block;
}

bool RowPlane::fits_int32(double scale, double query_norm) const {
  return std::ranges::all_of(blocks_, [&](const PlaneBlock& block) {
    return query_norm * block.norm + block.squares / 2 <= kLargestUnits * scale * block.scale;
  });
}

void RowPlane::copy_bias(std::int64_t row, std::int64_t count, double unit, std::byte* out) const {
  const float* const bias = bias_.data() + row;
  if (format_.is_exact || format_.type == PlaneType::bf16) {
    std::memcpy(out, bias, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const double inverse = 1 / unit;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto units = static_cast<std::int32_t>(std::nearbyint(bias[i] * inverse));
    std::memcpy(out + i * 4, &units, sizeof(units));
  }
}

void PlaneQueries::reserve(std::int64_t queries, std::int64_t d, std::int64_t sample_rows, const Isa& isa) {
  const auto grow = [](Matrix& memory, std::int64_t bytes) {
    if (static_cast<std::int64_t>(memory.bytes()) < bytes) memory = Matrix(DType::u8, 1, bytes);
  };
  set_size(queries_, queries);
  set_size(row_, row_tiles(PlaneType::bf16, d) * kTileRowBytes);
  set_size(values_, padded_values(PlaneType::s8, d));
  grow(packed_, plane_bytes(PlaneType::bf16, queries, d));
  grow(bias_, RowPlane::kBlockRows * static_cast<std::int64_t>(sizeof(float)));
  grow(scratch_, isa.plane->scratch_bytes(queries, row_tiles(PlaneType::bf16, d)));
  grow(groups_, group_bytes(queries, sample_rows));
}

std::int64_t PlaneQueries::bytes_for(std::int64_t queries, std::int64_t d, std::int64_t sample_rows,
                                     const Isa& isa) {
  return group_bytes(queries, sample_rows) + queries * static_cast<std::int64_t>(sizeof(Query)) +
         padded_values(PlaneType::s8, d) * static_cast<std::int64_t>(sizeof(double)) +
         plane_bytes(PlaneType::bf16, queries, d) + row_tiles(PlaneType::bf16, d) * kTileRowBytes +
         RowPlane::kBlockRows * static_cast<std::int64_t>(sizeof(float)) +
         isa.plane->scratch_bytes(queries, row_tiles(PlaneType::bf16, d));
}

std::size_t PlaneQueries::bytes() const {
  return bytes_of(queries_) + bytes_of(values_) + bytes_of(row_) + packed_.bytes() + bias_.bytes() +
         scratch_.bytes() + groups_.bytes();
}

bool PlaneQueries::begin(const RowPlane& plane, Metric metric, const Isa& isa,
                         MatrixView<const float> queries, double error_factor) {
  const PlaneFormat& format = plane.format();
  const std::int64_t d = queries.cols;
  const bool is_bf16 = format.type == PlaneType::bf16;
  isa_ = &isa;
  type_ = format.type;
  n_queries_ = queries.rows;
  has_bias_ = plane.has_bias();
  error_factor_ = error_factor;
  scale_ = 1;
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
  if (!is_bf16 && !format.is_exact) {
    double largest = 0;
    for (std::int64_t q = 0; q < queries.rows; ++q) {
      load(q);
      largest = std::max(largest, largest_magnitude(values_.data(), d));
    }
    scale_ = scale_of(largest);
  }
  const double center_norm =
      format.center.empty()
          ? 0.0
          : norm_range(isa.dot_product(format.center.data(), format.center.data(), d), d).high;
  std::memset(packed_.data(), 0, static_cast<std::size_t>(plane_bytes(type_, n_queries_, d)));
  largest_norm_ = 0;
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    Query& query = queries_[static_cast<std::size_t>(q)];
    const float* const row = queries.row(q);
    load(q);
    const PackedSquares squares =
        isa.plane->quantize(type_, values_.data(), plane.row_tiles(), scale_, row_.data());
    if (format.is_exact && squares.residual > 0) return false;
    double own = 0;
    for (std::int64_t i = 0; i < d; ++i)
      own += values_[static_cast<std::size_t>(i)] * values_[static_cast<std::size_t>(i)];
    query.norm = norm_range(own, d).high;
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
  if (!(largest_norm_ * plane.maxima().norm <= kLargestProduct)) return false;
  return type_ == PlaneType::bf16 || plane.fits_int32(scale_, largest_norm_);
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
  if (type_ == PlaneType::bf16)
    summed += kFloatRounding * half_squares;
  else if (has_bias_)
    summed += unit(block);  // half of it is what the bias is rounded by
  return (lost + summed + query.offset_error) * kOutward * error_factor_;
}

PlaneTile PlaneQueries::tile_of(const RowPlane& plane, std::int64_t begin, std::int64_t end) {
  PlaneTile tile;
  tile.type = type_;
  tile.row_tiles = plane.row_tiles();
  tile.queries = packed_.data();
  tile.n_queries = n_queries_;
  tile.rows = plane.panel(begin);
  tile.n_rows = end - begin;
  tile.unit = type_ == PlaneType::bf16 ? 1.0 : unit(plane.block_of(begin));
  if (has_bias_) {
    plane.copy_bias(begin, end - begin, tile.unit, bias_.data());
    tile.bias = bias_.data();
  }
  tile.scratch = scratch_.data();
  return tile;
}

void PlaneQueries::screen(const RowPlane& plane, std::int64_t begin, std::int64_t end,
                          const float* thresholds, CandidateSink& sink) {
  PlaneTile tile = tile_of(plane, begin, end);
  tile.thresholds = thresholds;
  isa_->plane->run(tile, sink);
}

void PlaneQueries::kth_scores(const RowPlane& plane, std::int64_t k, float* scores) {
  struct NoHits final : CandidateSink {
    void add(std::int64_t, std::int64_t, float) override {}
  } nothing;
  auto* const groups = reinterpret_cast<float*>(groups_.data());
  const std::int64_t columns = padded_queries(n_queries_);
  // Half panels leave columns that no tile fills.
  std::fill_n(groups, columns * (plane.rows() / kTileRows), 0.0f);
  for (std::int64_t begin = 0; begin < plane.rows(); begin += RowPlane::kBlockRows) {
    PlaneTile tile = tile_of(plane, begin, std::min(plane.rows(), begin + RowPlane::kBlockRows));
    tile.group_maxima = groups + begin / kTileRows * columns;
    isa_->plane->run(tile, nothing);
  }
  isa_->plane->kth_largest(groups, plane.rows() / kTileRows, columns, k, scores);
}

}  // namespace mpishards::kernels::cpu

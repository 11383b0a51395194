#include "kernels/cpu/plane_queries.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/plane_values.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/score_cut.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFloatRounding = 0x1p-24;
// Tile sums flush results below this to zero.
constexpr double kSmallestNormalFloat = 0x1p-126;
// Sums of products of magnitudes up to this, widened by the bounds, stay below float32's largest value.
constexpr double kLargestProduct = 1e37;

}  // namespace

void PlaneQueries::reserve(std::int64_t queries, std::int64_t d, std::int64_t sample_rows, const Isa& isa) {
  const auto grow = [](Matrix& memory, std::int64_t bytes) {
    if (static_cast<std::int64_t>(memory.bytes()) < bytes) memory = Matrix(DType::u8, 1, bytes);
  };
  set_size(queries_, queries);
  set_size(errors_, padded_queries(queries));
  set_size(rows_, row_tiles(PlaneType::bf16, d) * kTileBytes);
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
         plane_bytes(PlaneType::bf16, queries, d) + row_tiles(PlaneType::bf16, d) * kTileBytes +
         padded_queries(queries) * static_cast<std::int64_t>(sizeof(float)) +
         isa.plane->scratch_bytes(queries, row_tiles(PlaneType::bf16, d));
}

std::size_t PlaneQueries::bytes() const {
  return bytes_of(queries_) + bytes_of(errors_) + bytes_of(values_) + bytes_of(rows_) + packed_.bytes() +
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

  const bool is_centered = metric == Metric::l2 && !format.center.empty();
  const float* const center = is_centered ? format.center.data() : nullptr;
  const double center_norm = plane.center_norm();
  const std::int64_t row_bytes = plane.row_tiles() * kTileRowBytes;
  std::fill(values_.begin() + d, values_.begin() + width, 0.0);
  largest_norm_ = 0;
  for (std::int64_t first = 0; first < queries.rows; first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, queries.rows - first);
    std::array<const float*, kTileRows> rows{};
    std::array<double, kTileRows> offsets{};
    for (std::int64_t i = 0; i < count; ++i) rows[static_cast<std::size_t>(i)] = queries.row(first + i);
    if (!format.center.empty())
      isa.dot_products(format.center.data(), {rows.data(), static_cast<std::size_t>(count)}, d,
                       offsets.data());
    for (std::int64_t i = 0; i < count; ++i) {
      Query& query = queries_[static_cast<std::size_t>(first + i)];
      const CenteredSums sums =
          isa.plane->subtract_center(rows[static_cast<std::size_t>(i)], 1, center, d, values_.data());
      query.scale = is_scaled() ? byte_scale(sums.largest) : 1.0;
      const PackedSquares squares = isa.plane->quantize(type_, values_.data(), plane.row_tiles(), query.scale,
                                                        rows_.data() + i * row_bytes);
      if (format.is_exact && squares.residual > 0) return false;
      query.norm = norm_range(sums.squares, d).high;
      query.residual = norm_range(squares.residual, d).high;
      query.packed_norm = norm_range(squares.values, d).high;
      query.offset = offsets[static_cast<std::size_t>(i)];
      if (is_centered) query.offset -= center_norm * center_norm / 2;
      // Of the offset, of differences from the center, and of norms of one: each a few roundings in double.
      const double query_norm = (query.norm + (is_centered ? center_norm : 0.0)) * kOutward;
      const double slack = static_cast<double>(d + 64) * 0x1p-51;
      query.offset_error = slack * ((query_norm + center_norm) * (center_norm + plane.maxima().norm) +
                                    plane.maxima().squares + (metric == Metric::cosine ? query_norm : 0.0));
      largest_norm_ = std::max(largest_norm_, query.packed_norm);
      if (!(query.norm < kInfinity && query.residual < kInfinity)) return false;
    }
    pack_tile(first / kTileRows, row_bytes);
  }
  return fits(plane);
}

bool PlaneQueries::fits(const RowPlane& plane) const {
  if (!is_exact_) return largest_norm_ * plane.maxima().norm <= kLargestProduct;
  return largest_norm_ * plane.maxima().norm + plane.maxima().squares / 2 <= kLargestUnits;
}

/// Packs the 16 queries that lie in rows_, behind the last one zeros, and zeros where a panel ends with them.
void PlaneQueries::pack_tile(std::int64_t tile, std::int64_t row_bytes) {
  const std::int64_t in_tile = std::min(kTileRows, n_queries_ - tile * kTileRows);
  std::fill(rows_.begin() + in_tile * row_bytes, rows_.begin() + kTileRows * row_bytes, std::byte{0});
  const std::int64_t row_tiles = row_bytes / kTileRowBytes;
  std::byte* const panel = packed_.data() + tile / 2 * row_tiles * 2 * kTileBytes;
  isa_->plane->interleave(rows_.data(), row_tiles, panel + tile % 2 * kTileBytes);
  if (tile % 2 == 1 || (tile + 1) * kTileRows < n_queries_) return;
  for (std::int64_t i = 0; i < row_tiles; ++i)
    std::memset(panel + (2 * i + 1) * kTileBytes, 0, static_cast<std::size_t>(kTileBytes));
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

#include "kernels/cpu/plane_format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "core/convert.hpp"
#include "kernels/cpu/plane_values.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr std::int64_t kCenterRows = 1024;
constexpr std::int64_t kByteSampleRows = 256;
// By which the type of a plane is chosen.
constexpr std::int64_t kLeastRowsOfBytes = 8192;
constexpr std::int64_t kMostSampleRows = 65536;
constexpr std::int64_t kLeastStride = 8;
constexpr std::int64_t kSampleQueries = 16;
constexpr std::int64_t kSampleNeighbors = 4;
constexpr double kMostExtraCandidates = 6;  // for each neighbor

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
      const CenteredSums sums = reader.read(row, own);
      std::transform(own, own + d, centered, [](double value) { return static_cast<float>(value); });
      as_bytes =
          packing_of(PlaneType::s8, own, byte_scale(sums.largest), d, bytes.data() + thread * packed_bytes);
      as_bf16 = packing_of(PlaneType::bf16, own, 1, d, bytes.data() + thread * packed_bytes);
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

  Packing packing_of(PlaneType type, const double* values, double scale, std::int64_t d,
                     std::byte* bytes) const {
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

}  // namespace

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

PlaneFormat lossy_format_of(TypedView base, Metric metric, std::optional<PlaneType> type, const Isa& isa,
                            int threads) {
  std::vector<float> center = center_of(base, metric, isa);
  const PlaneType chosen = type.has_value() ? *type : quicker_type(base, metric, center, isa, threads);
  return {chosen, false, std::move(center)};
}

}  // namespace mpishards::kernels::cpu

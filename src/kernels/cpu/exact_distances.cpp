#include "kernels/cpu/exact_distances.hpp"

#include <algorithm>
#include <array>

#include "core/convert.hpp"
#include "kernels/distance.hpp"

namespace mpishards::kernels::cpu {

namespace {

bool is_byte(DType dtype) {
  return dtype == DType::u8 || dtype == DType::i8;
}

}  // namespace

void ExactDistances::reserve(std::int64_t queries, std::int64_t d, DType dtype) {
  set_size(query_squares_, queries);
  set_size(row_floats_, d);
  set_size(query_bytes_, is_byte(dtype) ? queries * d : 0);
  set_size(has_bytes_, queries);
}

std::int64_t ExactDistances::bytes_for(std::int64_t queries, std::int64_t d, DType dtype) {
  return queries * static_cast<std::int64_t>(sizeof(double) + sizeof(char)) +
         d * static_cast<std::int64_t>(sizeof(float)) + (is_byte(dtype) ? queries * d : 0);
}

std::size_t ExactDistances::bytes() const {
  return bytes_of(query_squares_) + bytes_of(row_floats_) + bytes_of(query_bytes_) + bytes_of(has_bytes_);
}

void ExactDistances::begin(Metric metric, const Isa& isa, MatrixView<const float> queries, DType dtype) {
  metric_ = metric;
  isa_ = &isa;
  queries_ = queries;
  dtype_ = dtype;
  for (std::int64_t q = 0; q < queries.rows; ++q)
    query_squares_[static_cast<std::size_t>(q)] =
        isa.dot_product(queries.row(q), queries.row(q), queries.cols);
  std::fill(has_bytes_.begin(), has_bytes_.end(), char{0});
  if (!is_byte(dtype)) return;
  sums_ = dtype == DType::u8 ? &isa.u8_sums : &isa.i8_sums;
  const float low = dtype == DType::u8 ? 0 : -128;
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    const float* const row = queries.row(q);
    const bool fits = std::all_of(row, row + queries.cols, [low](float value) {
      return value >= low && value <= low + 255 && value == static_cast<float>(static_cast<int>(value));
    });
    has_bytes_[static_cast<std::size_t>(q)] = fits ? 1 : 0;
    if (!fits) continue;
    std::transform(row, row + queries.cols, query_bytes_.begin() + q * queries.cols,
                   [](float value) { return static_cast<std::byte>(static_cast<int>(value)); });
  }
}

float ExactDistances::byte_distance(std::int64_t query, const std::byte* row) const {
  const std::int64_t d = queries_.cols;
  const std::byte* const q = query_bytes_.data() + query * d;
  switch (metric_) {
    case Metric::l2:
      return static_cast<float>(static_cast<double>(sums_->l2_squared(q, row, d)));
    case Metric::ip:
      return static_cast<float>(static_cast<double>(sums_->dot_product(q, row, d)));
    case Metric::cosine:
      break;
  }
  return static_cast<float>(cosine_similarity(static_cast<double>(sums_->dot_product(q, row, d)),
                                              query_squares(query),
                                              static_cast<double>(sums_->dot_product(row, row, d))));
}

float ExactDistances::distance(std::int64_t query, const std::byte* row) {
  if (has_bytes_[static_cast<std::size_t>(query)] != 0) return byte_distance(query, row);
  const std::int64_t d = queries_.cols;
  const float* values = reinterpret_cast<const float*>(row);
  if (dtype_ != DType::f32) {
    to_float32(dtype_, row, d, row_floats_.data());
    values = row_floats_.data();
  }
  const float* const q = queries_.row(query);
  switch (metric_) {
    case Metric::l2:
      return static_cast<float>(isa_->l2_squared(q, values, d));
    case Metric::ip:
      return static_cast<float>(isa_->dot_product(q, values, d));
    case Metric::cosine:
      break;
  }
  return static_cast<float>(cosine_similarity(isa_->dot_product(q, values, d), query_squares(query),
                                              isa_->dot_product(values, values, d)));
}

void ExactDistances::distances(std::int64_t query, std::span<const std::byte* const> rows, float* out) {
  if (dtype_ != DType::f32) {
    for (const std::byte* const row : rows) *out++ = distance(query, row);
    return;
  }
  const std::int64_t d = queries_.cols;
  const float* const q = queries_.row(query);
  std::array<const float*, kRowsAtOnce> values{};
  std::array<double, kRowsAtOnce> sums{};
  std::ranges::transform(rows, values.begin(),
                         [](const std::byte* row) { return reinterpret_cast<const float*>(row); });
  (metric_ == Metric::l2 ? isa_->l2_squares : isa_->dot_products)(q, {values.data(), rows.size()}, d,
                                                                  sums.data());
  for (std::size_t r = 0; r < rows.size(); ++r)
    out[r] = static_cast<float>(
        metric_ == Metric::cosine
            ? cosine_similarity(sums[r], query_squares(query), isa_->dot_product(values[r], values[r], d))
            : sums[r]);
}

void prefetch_row(const std::byte* row, std::size_t row_bytes) {
  constexpr std::size_t kCacheLine = 64;
  constexpr std::size_t kPrefetchBytes = 16 * kCacheLine;
  for (std::size_t offset = 0; offset < std::min(row_bytes, kPrefetchBytes); offset += kCacheLine)
    __builtin_prefetch(row + offset);
}

}  // namespace mpishards::kernels::cpu

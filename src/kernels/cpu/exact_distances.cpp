#include "kernels/cpu/exact_distances.hpp"

#include <algorithm>

#include "core/convert.hpp"
#include "kernels/distance.hpp"

namespace mpishards::kernels::cpu {

void ExactDistances::reserve(std::int64_t queries, std::int64_t d) {
  query_squares_.resize(static_cast<std::size_t>(queries));
  row_floats_.resize(static_cast<std::size_t>(d));
}

std::size_t ExactDistances::bytes() const {
  return query_squares_.capacity() * sizeof(double) + row_floats_.capacity() * sizeof(float);
}

void ExactDistances::begin(Metric metric, const Isa& isa, MatrixView<const float> queries, DType dtype) {
  metric_ = metric;
  isa_ = &isa;
  queries_ = queries;
  dtype_ = dtype;
  for (std::int64_t q = 0; q < queries.rows; ++q)
    query_squares_[static_cast<std::size_t>(q)] =
        isa.dot_product(queries.row(q), queries.row(q), queries.cols);
}

float ExactDistances::distance(std::int64_t query, const std::byte* row) {
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

void prefetch_row(const std::byte* row, std::size_t row_bytes) {
  constexpr std::size_t kCacheLine = 64;
  constexpr std::size_t kPrefetchBytes = 16 * kCacheLine;
  for (std::size_t offset = 0; offset < std::min(row_bytes, kPrefetchBytes); offset += kCacheLine)
    __builtin_prefetch(row + offset);
}

}  // namespace mpishards::kernels::cpu

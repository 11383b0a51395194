#include "kernels/codec.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "kernels/cpu/isa.hpp"

namespace mpishards::kernels {
namespace {

constexpr std::int64_t kByteValues = 256;

/// A byte a value: lowest + code * step.
class ScalarCodec final : public Codec {
 public:
  ScalarCodec(Matrix parameters, const cpu::Isa& isa) : parameters_(std::move(parameters)), isa_(isa) {}

  std::int64_t code_bytes() const override { return parameters_.cols(); }
  void encode(const float* vector, std::byte* code) const override;
  void decode(const std::byte* code, float* vector) const override;
  /// The query times the steps, and its product with the lowest values.
  std::int64_t table_floats() const override { return code_bytes() + 1; }
  void make_table(const float* query, float* table) const override;
  void products(const float* table, const std::byte* codes, std::int64_t rows, float* out) const override;

 private:
  const float* lowest() const { return parameters_.view().as<float>().row(0); }
  const float* steps() const { return parameters_.view().as<float>().row(1); }

  Matrix parameters_;
  const cpu::Isa& isa_;
};

void ScalarCodec::encode(const float* vector, std::byte* code) const {
  for (std::int64_t i = 0; i < code_bytes(); ++i) {
    const double step = steps()[i];
    const double above = static_cast<double>(vector[i]) - static_cast<double>(lowest()[i]);
    const double steps_up = step > 0 ? std::round(above / step) : 0.0;
    code[i] = static_cast<std::byte>(static_cast<int>(std::clamp(steps_up, 0.0, 255.0)));
  }
}

void ScalarCodec::decode(const std::byte* code, float* vector) const {
  for (std::int64_t i = 0; i < code_bytes(); ++i)
    vector[i] = static_cast<float>(static_cast<double>(lowest()[i]) +
                                   std::to_integer<int>(code[i]) * static_cast<double>(steps()[i]));
}

void ScalarCodec::make_table(const float* query, float* table) const {
  double with_lowest = 0;
  for (std::int64_t i = 0; i < code_bytes(); ++i) {
    table[i] = query[i] * steps()[i];
    with_lowest += static_cast<double>(query[i]) * static_cast<double>(lowest()[i]);
  }
  table[code_bytes()] = static_cast<float>(with_lowest);
}

void ScalarCodec::products(const float* table, const std::byte* codes, std::int64_t rows, float* out) const {
  isa_.byte_products(table, codes, rows, code_bytes(), out);
  const float with_lowest = table[code_bytes()];
  for (std::int64_t r = 0; r < rows; ++r) out[r] += with_lowest;
}

/// The numbers of the nearest codewords of all parts.
class ProductCodec final : public Codec {
 public:
  ProductCodec(const CodecShape& shape, const Matrix& codewords);

  std::int64_t code_bytes() const override { return shape_.code_bytes(d_); }
  void encode(const float* vector, std::byte* code) const override;
  void decode(const std::byte* code, float* vector) const override;
  /// For every byte of a code the product of each of its values.
  std::int64_t table_floats() const override { return code_bytes() * kByteValues; }
  void make_table(const float* query, float* table) const override;
  void products(const float* table, const std::byte* codes, std::int64_t rows, float* out) const override;

 private:
  /// One dimension's value in each codeword.
  const float* values_of(std::int64_t dimension) const {
    return values_.data() + dimension * shape_.codewords();
  }
  std::int64_t nearest(std::int64_t part, const float* vector) const;
  void part_products(std::int64_t part, const float* query, float* out) const;

  CodecShape shape_;
  std::int64_t d_;
  std::int64_t part_d_;
  std::vector<float> values_;  // d x codewords
};

ProductCodec::ProductCodec(const CodecShape& shape, const Matrix& codewords)
    : shape_(shape), d_(codewords.cols()), part_d_(d_ / shape.parts) {
  const MatrixView<const float> rows = codewords.view().as<float>();
  for (std::int64_t i = 0; i < d_; ++i)
    for (std::int64_t word = 0; word < shape_.codewords(); ++word) values_.push_back(rows.row(word)[i]);
}

std::int64_t ProductCodec::nearest(std::int64_t part, const float* vector) const {
  float distances[kByteValues] = {};
  for (std::int64_t i = part * part_d_; i < (part + 1) * part_d_; ++i) {
    const float* const values = values_of(i);
    const float at = vector[i];
    for (std::int64_t word = 0; word < shape_.codewords(); ++word) {
      const float difference = at - values[word];
      distances[word] += difference * difference;
    }
  }
  return std::min_element(distances, distances + shape_.codewords()) - distances;
}

void ProductCodec::encode(const float* vector, std::byte* code) const {
  std::fill_n(code, code_bytes(), std::byte{0});
  const std::int64_t codes_a_byte = 8 / shape_.bits;
  for (std::int64_t part = 0; part < shape_.parts; ++part)
    code[part / codes_a_byte] |=
        static_cast<std::byte>(nearest(part, vector) << (part % codes_a_byte * shape_.bits));
}

void ProductCodec::decode(const std::byte* code, float* vector) const {
  const std::int64_t codes_a_byte = 8 / shape_.bits;
  for (std::int64_t part = 0; part < shape_.parts; ++part) {
    const int shifted =
        std::to_integer<int>(code[part / codes_a_byte]) >> (part % codes_a_byte * shape_.bits);
    const std::int64_t word = shifted & (shape_.codewords() - 1);
    for (std::int64_t i = part * part_d_; i < (part + 1) * part_d_; ++i) vector[i] = values_of(i)[word];
  }
}

void ProductCodec::part_products(std::int64_t part, const float* query, float* out) const {
  std::fill_n(out, shape_.codewords(), 0.0F);
  for (std::int64_t i = part * part_d_; i < (part + 1) * part_d_; ++i) {
    const float* const values = values_of(i);
    const float at = query[i];
    for (std::int64_t word = 0; word < shape_.codewords(); ++word) out[word] += at * values[word];
  }
}

void ProductCodec::make_table(const float* query, float* table) const {
  if (shape_.bits == 8) {
    for (std::int64_t part = 0; part < shape_.parts; ++part)
      part_products(part, query, table + part * kByteValues);
    return;
  }
  // Two parts share a byte: one look-up for both.
  for (std::int64_t byte = 0; byte < code_bytes(); ++byte) {
    float low[16];
    float high[16] = {};
    part_products(2 * byte, query, low);
    if (2 * byte + 1 < shape_.parts) part_products(2 * byte + 1, query, high);
    for (std::int64_t value = 0; value < kByteValues; ++value)
      table[byte * kByteValues + value] = low[value & 15] + high[value >> 4];
  }
}

void ProductCodec::products(const float* table, const std::byte* codes, std::int64_t rows, float* out) const {
  constexpr std::int64_t kTogether = 4;  // rows, whose sums don't wait for each other
  const std::int64_t bytes = code_bytes();
  const auto* const values = reinterpret_cast<const std::uint8_t*>(codes);
  std::int64_t row = 0;
  for (; row + kTogether <= rows; row += kTogether) {
    const std::uint8_t* const first = values + row * bytes;
    float sums[kTogether] = {};
    for (std::int64_t byte = 0; byte < bytes; ++byte) {
      const float* const of_byte = table + byte * kByteValues;
      for (std::int64_t r = 0; r < kTogether; ++r) sums[r] += of_byte[first[r * bytes + byte]];
    }
    std::copy_n(sums, kTogether, out + row);
  }
  for (; row < rows; ++row) {
    float sum = 0;
    for (std::int64_t byte = 0; byte < bytes; ++byte)
      sum += table[byte * kByteValues + values[row * bytes + byte]];
    out[row] = sum;
  }
}

}  // namespace

std::unique_ptr<Codec> make_codec(const CodecShape& shape, Matrix parameters, std::string_view isa) {
  const std::int64_t d = parameters.cols();
  if (parameters.dtype() != DType::f32 || parameters.rows() != shape.parameter_rows())
    throw Error(ErrorKind::internal, std::to_string(parameters.rows()) + " x " + std::to_string(d) +
                                         " parameters of a codec, expected " +
                                         std::to_string(shape.parameter_rows()) + " rows of float32");
  if (shape.is_scalar()) return std::make_unique<ScalarCodec>(std::move(parameters), cpu::find_isa(isa));
  if (d % shape.parts != 0)
    throw Error(ErrorKind::usage, "vectors of d = " + std::to_string(d) + " can't be cut into " +
                                      std::to_string(shape.parts) +
                                      " equal parts; name a number of parts that divides d");
  return std::make_unique<ProductCodec>(shape, parameters);
}

}  // namespace mpishards::kernels

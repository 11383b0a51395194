#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/matrix_view.hpp"

namespace mpishards::kernels {

/// What a short code holds of a vector.
struct CodecShape {
  // Product quantizer: equal parts that a vector is cut into, each with codewords of its own. 0: scalar
  // quantizer, each value is one of 256 steps between the lowest and the highest of its dimension.
  std::int64_t parts = 0;
  int bits = 8;  // of a part's code: 8, or 4, two in a byte

  bool is_scalar() const { return parts == 0; }
  std::int64_t codewords() const { return std::int64_t{1} << bits; }
  std::int64_t code_bytes(std::int64_t d) const { return is_scalar() ? d : (parts * bits + 7) / 8; }
  /// Rows of the parameters: lowest values and steps; or codewords, each those of all parts side by side.
  std::int64_t parameter_rows() const { return is_scalar() ? 2 : codewords(); }

  friend bool operator==(const CodecShape&, const CodecShape&) = default;
};

/// Writes vectors as codes and back, and multiplies queries with codes. All is defined to the bit: one code's
/// value depends on nothing but the code, the parameters and the query. Safe to share between threads.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual std::int64_t code_bytes() const = 0;
  /// The code whose decoded vector is nearest, the smaller codeword where several are; values outside of what
  /// a scalar quantizer covers take its ends. @param vector d finite values @param[out] code code_bytes()
  virtual void encode(const float* vector, std::byte* code) const = 0;
  virtual void decode(const std::byte* code, float* vector) const = 0;

  /// What products() wants to know of one query. @param[out] table  table_floats()
  virtual std::int64_t table_floats() const = 0;
  virtual void make_table(const float* query, float* table) const = 0;
  /// out[r] = the inner product, in float32, of the query and the decoded code r.
  /// @par Cost  a look-up for each byte, or a multiplication with a scalar quantizer
  virtual void products(const float* table, const std::byte* codes, std::int64_t rows, float* out) const = 0;
};

/// @param parameters  shape.parameter_rows() x d float32, finite
/// @param isa         "auto" or a name of isa_names(); the same bits with each
/// @throws Error{usage} where d is no multiple of the parts, Error{internal} where the parameters don't fit
std::unique_ptr<Codec> make_codec(const CodecShape& shape, Matrix parameters, std::string_view isa);

}  // namespace mpishards::kernels

#include "serve/milvus/placeholder.hpp"

#include <optional>
#include <string>
#include <vector>

#include "core/convert.hpp"
#include "serve/status.hpp"

namespace mpishards::serve::milvus {

namespace {

enum class WireType : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

[[noreturn]] void refuse(const std::string& reason) {
  throw RequestError(Code::invalid_parameter, reason);
}

/// Fields of one protobuf message, one after the other.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}

  /// Goes to the next field; false at the end.
  bool next() {
    if (bytes_.empty()) return false;
    const std::uint64_t key = take_varint();
    number_ = static_cast<std::int64_t>(key >> 3);
    type_ = static_cast<WireType>(key & 7U);
    switch (type_) {
      case WireType::varint:
        varint_ = take_varint();
        return true;
      case WireType::fixed64:
        take(8);
        return true;
      case WireType::bytes:
        value_ = take(take_varint());
        return true;
      case WireType::fixed32:
        take(4);
        return true;
    }
    refuse("the placeholder group is damaged: unknown wire type");
  }

  bool is_bytes(std::int64_t number) const { return number_ == number && type_ == WireType::bytes; }
  bool is_varint(std::int64_t number) const { return number_ == number && type_ == WireType::varint; }
  std::string_view value() const { return value_; }
  std::uint64_t varint() const { return varint_; }

 private:
  std::uint64_t take_varint() {
    constexpr int kMostBits = 64;
    std::uint64_t value = 0;
    for (int shift = 0; shift < kMostBits && !bytes_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    refuse("the placeholder group is damaged: a number has no end");
  }

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size()) refuse("the placeholder group is damaged: it ends too soon");
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  std::string_view bytes_;
  std::int64_t number_ = 0;
  WireType type_ = WireType::varint;
  std::uint64_t varint_ = 0;
  std::string_view value_;
};

struct PlaceholderType {
  std::uint64_t number;
  const char* name;
  std::optional<DType> dtype;  // of the types that can be searched with
};
constexpr PlaceholderType kTypes[] = {
    {101, "FloatVector", DType::f32},     {102, "Float16Vector", DType::f16},
    {103, "BFloat16Vector", DType::bf16}, {105, "Int8Vector", DType::i8},
    {100, "BinaryVector", std::nullopt},  {104, "SparseFloatVector", std::nullopt},
    {21, "VarChar", std::nullopt},
};

DType dtype_of(std::uint64_t number) {
  std::string name = "type " + std::to_string(number);
  for (const PlaceholderType& type : kTypes) {
    if (type.number != number) continue;
    if (type.dtype) return *type.dtype;
    name = type.name;
  }
  refuse("vector type must be the same: the collection holds dense vectors, the queries are " + name);
}

struct Placeholder {
  std::uint64_t type = 0;
  std::vector<std::string_view> values;
};

void refuse_dimension(std::size_t wanted_bytes, std::size_t found_bytes, std::size_t query) {
  refuse("vector dimension mismatch: expected vector size(byte) " + std::to_string(wanted_bytes) +
         ", actual " + std::to_string(found_bytes) + " in query " + std::to_string(query));
}

/// Values that are too short for any type are refused at once: their number could be a hundred times what the
/// message's size allows for.
Placeholder read_placeholder(std::string_view bytes, std::size_t dim) {
  Placeholder placeholder;
  FieldReader fields(bytes);
  while (fields.next()) {
    if (fields.is_varint(2)) placeholder.type = fields.varint();
    if (!fields.is_bytes(3)) continue;
    if (fields.value().size() < dim) {
      const std::size_t component_bytes = placeholder.type == 0 ? 1 : size_bytes(dtype_of(placeholder.type));
      refuse_dimension(dim * component_bytes, fields.value().size(), placeholder.values.size());
    }
    placeholder.values.push_back(fields.value());
  }
  return placeholder;
}

Placeholder only_placeholder(std::string_view group, std::size_t dim) {
  std::optional<Placeholder> found;
  FieldReader fields(group);
  while (fields.next()) {
    if (!fields.is_bytes(1)) continue;
    if (found) refuse("the placeholder group holds more than one placeholder");
    found = read_placeholder(fields.value(), dim);
  }
  if (!found) refuse("the placeholder group holds no queries");
  return std::move(*found);
}

}  // namespace

Matrix parse_placeholder_group(std::string_view bytes, std::int64_t dim, std::int64_t nq) {
  const Placeholder placeholder = only_placeholder(bytes, static_cast<std::size_t>(dim));
  const DType dtype = dtype_of(placeholder.type);
  if (nq != 0 && nq != std::ssize(placeholder.values))
    refuse("nq = " + std::to_string(nq) + ", but the request holds " +
           std::to_string(placeholder.values.size()) + " queries");
  if (placeholder.values.empty()) refuse("nq [0] is invalid: there are no queries");
  const std::size_t row_bytes = static_cast<std::size_t>(dim) * size_bytes(dtype);
  for (std::size_t i = 0; i < placeholder.values.size(); ++i)
    if (placeholder.values[i].size() != row_bytes)
      refuse_dimension(row_bytes, placeholder.values[i].size(), i);
  Matrix queries(DType::f32, std::ssize(placeholder.values), dim);
  for (std::size_t i = 0; i < placeholder.values.size(); ++i)
    to_float32(dtype, reinterpret_cast<const std::byte*>(placeholder.values[i].data()), dim,
               queries.as<float>().row(static_cast<std::int64_t>(i)));
  return queries;
}

}  // namespace mpishards::serve::milvus

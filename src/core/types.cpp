#include "core/types.hpp"

#include <string>

#include "core/error.hpp"

namespace mpishards {

namespace {

struct DTypeRow {
  DType dtype;
  std::size_t bytes;
  std::string_view name;
};

constexpr DTypeRow kDTypes[] = {
    {DType::f32, 4, "f32"}, {DType::f16, 2, "f16"}, {DType::bf16, 2, "bf16"}, {DType::f64, 8, "f64"},
    {DType::u8, 1, "u8"},   {DType::i8, 1, "i8"},   {DType::i32, 4, "i32"},   {DType::i64, 8, "i64"},
};

}  // namespace

std::size_t size_bytes(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].bytes;
}

std::string_view to_string(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].name;
}

DType dtype_from_string(std::string_view text) {
  std::string known;
  for (const DTypeRow& row : kDTypes) {
    if (row.name == text) return row.dtype;
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  throw Error(ErrorKind::usage, "unknown dtype '" + std::string(text) + "'; known: " + known);
}

}  // namespace mpishards

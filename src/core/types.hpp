#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mpishards {

/// Row number in the whole base, or the file's own id of that row.
using GlobalId = std::int64_t;

/// Fills the places of an answer that has fewer than k neighbors.
inline constexpr GlobalId kNoNeighbor = -1;

/// Element type of vectors (first six) and of id files (last two).
enum class DType : std::uint8_t { f32, f16, bf16, f64, u8, i8, i32, i64 };

std::size_t size_bytes(DType dtype);
std::string_view to_string(DType dtype);

/// @throws Error{usage} naming the known types
DType dtype_from_string(std::string_view text);

/// True for the types whose distances are computed in exact integer arithmetic.
constexpr bool is_8bit(DType dtype) {
  return dtype == DType::u8 || dtype == DType::i8;
}

/// True for the types that may hold NaN or infinity.
constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f64;
}

}  // namespace mpishards

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/cpu/plane.hpp"
#include "kernels/cpu/screen.hpp"

namespace mpishards::kernels::cpu {

/// What differs between instruction sets: the defined sums (same bits in each) and the screen.
struct Isa {
  std::string_view name;
  std::string_view screen_name;  // for the report, of rows as they are stored
  bool (*is_supported)();
  double (*dot_product)(const float* a, const float* b, std::int64_t d);
  double (*l2_squared)(const float* a, const float* b, std::int64_t d);
  /// The same of one vector with several rows, bit for bit. @param[out] out  one a row
  void (*dot_products)(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
  void (*l2_squares)(const float* a, std::span<const float* const> rows, std::int64_t d, double* out);
  /// The same of 8-bit integers, u8 and i8.
  struct ByteSums {
    std::int64_t (*dot_product)(const std::byte* a, const std::byte* b, std::int64_t d);
    std::int64_t (*l2_squared)(const std::byte* a, const std::byte* b, std::int64_t d);
  };
  ByteSums u8_sums;
  ByteSums i8_sums;
  /// out[r] = sum of weights[i] * row r's byte i, as byte_products of distance.hpp.
  void (*byte_products)(const float* weights, const std::byte* bytes, std::int64_t rows, std::int64_t d,
                        float* out);
  /// A value that at least k of these reach, close to the k-th largest. @param values  may be reordered
  /// @pre 1 <= k <= count
  float (*kth_largest)(float* values, std::int64_t count, std::int64_t k);
  Screen screen;
  const PlaneScreen* plane = nullptr;  // null: rows are screened as they are stored
};

/// Best first; the last one runs everywhere.
std::span<const Isa> isa_registry();

/// @param name  "auto" or a name of the registry
/// @throws Error{usage} for an unknown name, Error{unavailable} where this machine lacks the instructions
const Isa& find_isa(std::string_view name);

/// The same, but also of what this machine lacks: for plans of other machines.
const Isa& find_planned_isa(std::string_view name);

}  // namespace mpishards::kernels::cpu

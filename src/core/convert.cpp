#include "core/convert.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/error.hpp"
#include "core/half.hpp"

namespace mpishards {

namespace {

template <class T>
T load(const std::byte* in, std::int64_t i) {
  T value;
  std::memcpy(&value, in + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* out, std::int64_t i, T value) {
  std::memcpy(out + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
}

double load_double(DType dtype, const std::byte* in, std::int64_t i) {
  switch (dtype) {
    case DType::f32:
      return load<float>(in, i);
    case DType::f16:
      return half_to_float(load<std::uint16_t>(in, i));
    case DType::bf16:
      return bfloat16_to_float(load<std::uint16_t>(in, i));
    case DType::f64:
      return load<double>(in, i);
    case DType::u8:
      return load<std::uint8_t>(in, i);
    case DType::i8:
      return load<std::int8_t>(in, i);
    case DType::i32:
      return load<std::int32_t>(in, i);
    case DType::i64:
      return static_cast<double>(load<std::int64_t>(in, i));
  }
  throw Error(ErrorKind::internal, "unknown dtype");
}

template <class T>
T to_integer(double value) {
  // 2^63 is the first double beyond int64; the casts of both limits to double are exact or round outward.
  if (!(value >= static_cast<double>(std::numeric_limits<T>::min()) &&
        value < static_cast<double>(std::numeric_limits<T>::max()) + 1.0) ||
      value != std::trunc(value))
    throw Error(ErrorKind::data, "value " + std::to_string(value) +
                                     " has no place in the integer type; convert to f32 instead");
  return static_cast<T>(value);
}

/// The float on the way to a 16-bit type: where double does not fit, the neighbour with an odd last bit.
/// Rounding that to nearest gives what rounding the double at once would; rounding the nearest float may be
/// off at a midpoint.
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(nearest) == value) return nearest;
  if ((std::bit_cast<std::uint32_t>(nearest) & 1u) != 0) return nearest;
  const bool above = value > static_cast<double>(nearest);
  return std::nextafter(nearest, above ? HUGE_VALF : -HUGE_VALF);
}

void store_double(DType dtype, std::byte* out, std::int64_t i, double value) {
  switch (dtype) {
    case DType::f32:
      return store(out, i, static_cast<float>(value));
    case DType::f16:
      return store(out, i, float_to_half(round_to_odd(value)));
    case DType::bf16:
      return store(out, i, float_to_bfloat16(round_to_odd(value)));
    case DType::f64:
      return store(out, i, value);
    case DType::u8:
      return store(out, i, to_integer<std::uint8_t>(value));
    case DType::i8:
      return store(out, i, to_integer<std::int8_t>(value));
    case DType::i32:
      return store(out, i, to_integer<std::int32_t>(value));
    case DType::i64:
      return store(out, i, to_integer<std::int64_t>(value));
  }
}

void halves_to_floats(const std::byte* in, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = half_to_float(load<std::uint16_t>(in, i));
}

using HalvesToFloats = void (*)(const std::byte*, std::int64_t, float*);
#if defined(__x86_64__)
// The same floats (of NaN another NaN) by the CPU's own conversion, in a tenth of the time.
[[gnu::target("avx,f16c")]] void halves_to_floats_f16c(const std::byte* in, std::int64_t count, float* out) {
  constexpr std::int64_t kLanes = 8;
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(
                                  reinterpret_cast<const __m128i*>(in + 2 * static_cast<std::size_t>(i)))));
  halves_to_floats(in + 2 * static_cast<std::size_t>(whole), count - whole, out + whole);
}

// All CPUs with AVX2 have F16C, whose name compilers know only since clang 18.
const HalvesToFloats widest_halves_to_floats =
    __builtin_cpu_supports("avx2") ? halves_to_floats_f16c : halves_to_floats;
#else
const HalvesToFloats widest_halves_to_floats = halves_to_floats;
#endif

bool all_fit_float32(const double* values, std::int64_t count) {
  bool finite = true;
  for (std::int64_t i = 0; i < count; ++i)
    finite &= std::abs(values[i]) <= double{std::numeric_limits<float>::max()};
  return finite;
}

/// @param exponent_mask bits that are all ones in NaN and infinity only
template <class Bits, class T>
bool all_finite_bits(const T* values, std::int64_t count, Bits exponent_mask) {
  Bits bad = 0;  // as wide as the values, so that the loop becomes vectors
  for (std::int64_t i = 0; i < count; ++i)
    bad |= static_cast<Bits>((std::bit_cast<Bits>(values[i]) & exponent_mask) == exponent_mask);
  return bad == 0;
}

bool row_is_finite(const TypedView& view, std::int64_t row) {
  switch (view.dtype) {
    case DType::f32:
      return all_finite_bits<std::uint32_t>(view.as<float>().row(row), view.cols, 0x7f800000);
    case DType::f64:
      return all_fit_float32(view.as<double>().row(row), view.cols);
    case DType::f16:
      return all_finite_bits<std::uint16_t>(view.as<std::uint16_t>().row(row), view.cols, 0x7c00);
    case DType::bf16:
      return all_finite_bits<std::uint16_t>(view.as<std::uint16_t>().row(row), view.cols, 0x7f80);
    default:
      return true;
  }
}

}  // namespace

void to_float32(DType dtype, const std::byte* in, std::int64_t count, float* out) {
  const auto n = static_cast<std::size_t>(count);
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, in, n * sizeof(float));
      return;
    case DType::f16:
      widest_halves_to_floats(in, count, out);
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < count; ++i) out[i] = bfloat16_to_float(load<std::uint16_t>(in, i));
      return;
    case DType::f64:
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<double>(in, i));
      return;
    case DType::u8:
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<std::uint8_t>(in, i));
      return;
    case DType::i8:
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<std::int8_t>(in, i));
      return;
    case DType::i32:
    case DType::i64:
      break;
  }
  throw Error(ErrorKind::internal,
              "to_float32: " + std::string(to_string(dtype)) + " holds ids, not vectors");
}

Matrix to_float32(Matrix stored) {
  if (stored.dtype() == DType::f32) return stored;
  Matrix floats(DType::f32, stored.rows(), stored.cols());
  to_float32(stored.dtype(), stored.data(), stored.rows() * stored.cols(), floats.as<float>().data);
  return floats;
}

void convert_elements(DType from, const std::byte* in, DType to, std::byte* out, std::int64_t count) {
  if (from == to) {
    std::memcpy(out, in, static_cast<std::size_t>(count) * size_bytes(from));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) store_double(to, out, i, load_double(from, in, i));
}

std::optional<std::int64_t> first_nonfinite_row(TypedView view, std::int64_t from_row) {
  if (!is_floating(view.dtype)) return std::nullopt;
  for (std::int64_t row = from_row; row < view.rows; ++row)
    if (!row_is_finite(view, row)) return row;
  return std::nullopt;
}

}  // namespace mpishards

#include "kernels/cpu/isa.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <string>

#include "core/error.hpp"
#include "kernels/cpu/amx.hpp"
#include "kernels/cpu/avx2.hpp"
#include "kernels/cpu/avx512.hpp"
#include "kernels/cpu/screen_blas.hpp"
#include "kernels/distance.hpp"
#include "kernels/index.hpp"

namespace mpishards::kernels {
namespace cpu {
namespace {

float kth_largest(float* values, std::int64_t count, std::int64_t k) {
  std::nth_element(values, values + (k - 1), values + count, std::greater<>());
  return values[k - 1];
}

template <double (*kSum)(const float* a, const float* b, std::int64_t d)>
void each_row(const float* a, std::span<const float* const> rows, std::int64_t d, double* out) {
  for (const float* const row : rows) *out++ = kSum(a, row, d);
}

constexpr Isa::ByteSums kU8Sums = {byte_dot_product<std::uint8_t>, byte_l2_squared<std::uint8_t>};
constexpr Isa::ByteSums kI8Sums = {byte_dot_product<std::int8_t>, byte_l2_squared<std::int8_t>};
#if defined(MPISHARDS_X86_64)
constexpr Isa::ByteSums kAvx512U8Sums = {avx512::u8_dot_product, avx512::u8_l2_squared};
constexpr Isa::ByteSums kAvx512I8Sums = {avx512::i8_dot_product, avx512::i8_l2_squared};
#endif

constexpr std::array kIsas = {
#if defined(MPISHARDS_X86_64)
    Isa{"amx", "own float32 kernel", amx::is_supported, avx512::dot_product, avx512::l2_squared,
        avx512::dot_products, avx512::l2_squares, kAvx512U8Sums, kAvx512I8Sums, avx2::byte_products,
        avx512::kth_largest, avx512::kScreen, &amx::kPlaneScreen},
    Isa{"avx512", "own float32 kernel", avx512::is_supported, avx512::dot_product, avx512::l2_squared,
        avx512::dot_products, avx512::l2_squares, kAvx512U8Sums, kAvx512I8Sums, avx2::byte_products,
        avx512::kth_largest, avx512::kScreen},
    Isa{"avx2", "own float32 kernel", avx2::is_supported, avx2::dot_product, avx2::l2_squared,
        avx2::dot_products, avx2::l2_squares, kU8Sums, kI8Sums, avx2::byte_products, kth_largest,
        avx2::kScreen},
#endif
    Isa{"portable", "OpenBLAS sgemm", [] { return true; }, kernels::dot_product, kernels::l2_squared,
        each_row<kernels::dot_product>, each_row<kernels::l2_squared>, kU8Sums, kI8Sums,
        kernels::byte_products, kth_largest, kBlasScreen},
};

std::string known_names() {
  std::string names = "auto";
  for (const Isa& isa : kIsas) names.append(", ").append(isa.name);
  return names;
}

}  // namespace

std::span<const Isa> isa_registry() {
  return kIsas;
}

const Isa& find_planned_isa(std::string_view name) {
  for (const Isa& isa : kIsas)
    if (name == isa.name || (name == "auto" && isa.is_supported())) return isa;
  throw Error(ErrorKind::usage,
              "unknown CPU instruction set '" + std::string(name) + "'; known: " + known_names());
}

const Isa& find_isa(std::string_view name) {
  const Isa& isa = find_planned_isa(name);
  if (!isa.is_supported())
    throw Error(ErrorKind::unavailable,
                "this machine has no " + std::string(name) + " instructions; use --isa auto");
  return isa;
}

}  // namespace cpu

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const cpu::Isa& isa : cpu::isa_registry())
    if (isa.is_supported()) names.emplace_back(isa.name);
  return names;
}

int isa_place(std::string_view name) {
  return static_cast<int>(&cpu::find_isa(name) - cpu::isa_registry().data());
}

std::string isa_at(int place) {
  return std::string(cpu::isa_registry()[static_cast<std::size_t>(place)].name);
}

}  // namespace mpishards::kernels

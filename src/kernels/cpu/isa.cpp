#include "kernels/cpu/isa.hpp"

#include <array>
#include <string>

#include "core/error.hpp"
#include "kernels/cpu/avx2.hpp"
#include "kernels/cpu/screen_blas.hpp"
#include "kernels/distance.hpp"
#include "kernels/index.hpp"

namespace mpishards::kernels {
namespace cpu {
namespace {

constexpr std::array kIsas = {
#if defined(MPISHARDS_X86_64)
    Isa{"avx2", "own float32 kernel", avx2::is_supported, avx2::dot_product, avx2::l2_squared,
        avx2::byte_products, avx2::kScreen},
#endif
    Isa{"portable", "OpenBLAS sgemm", [] { return true; }, kernels::dot_product, kernels::l2_squared,
        kernels::byte_products, kBlasScreen},
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

const Isa& find_isa(std::string_view name) {
  for (const Isa& isa : kIsas) {
    if (name == "auto" && isa.is_supported()) return isa;
    if (name != isa.name) continue;
    if (!isa.is_supported())
      throw Error(ErrorKind::unavailable,
                  "this machine has no " + std::string(name) + " instructions; use --isa auto");
    return isa;
  }
  throw Error(ErrorKind::usage,
              "unknown CPU instruction set '" + std::string(name) + "'; known: " + known_names());
}

}  // namespace cpu

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const cpu::Isa& isa : cpu::isa_registry())
    if (isa.is_supported()) names.emplace_back(isa.name);
  return names;
}

}  // namespace mpishards::kernels

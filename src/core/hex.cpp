#include "core/hex.hpp"

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>

namespace mpishards {

std::string hex(std::uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016" PRIx64, value);
  return text.data();
}

std::optional<std::uint64_t> from_hex(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (hex(value) != text) return std::nullopt;
  return value;
}

}  // namespace mpishards

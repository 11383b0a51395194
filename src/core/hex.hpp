#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mpishards {

/// Hashes as they are written: 16 hexadecimal digits.
std::string hex(std::uint64_t value);

/// What hex() wrote; nothing for any other text.
std::optional<std::uint64_t> from_hex(std::string_view text);

}  // namespace mpishards

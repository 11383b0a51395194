#include "serve/token_set.hpp"

#include <cstdint>
#include <sstream>

#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::serve {

namespace {

/// 1 where the texts are equal, without a branch on their contents.
unsigned equal_bytes(std::string_view given, std::string_view token) {
  const std::size_t length_difference = given.size() ^ token.size();
  std::size_t difference = length_difference;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char other = token.empty() ? '\0' : token[i % token.size()];
    difference |= static_cast<unsigned char>(given[i] ^ other);
  }
  return difference == 0 ? 1 : 0;
}

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

}  // namespace

TokenSet TokenSet::read(const std::string& path) {
  std::istringstream lines(io::read_text(path));
  std::vector<std::string> tokens;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && line.front() != '#') tokens.push_back(line);
  }
  if (tokens.empty())
    throw Error(ErrorKind::config, path + " holds no token; write one a line, a token or user:password");
  return TokenSet(std::move(tokens));
}

bool TokenSet::admits(std::string_view token) const {
  if (is_open()) return true;
  unsigned found = 0;
  for (const std::string& known : tokens_) found |= equal_bytes(token, known);
  return found != 0;
}

std::string decode_base64(std::string_view text) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string decoded;
  std::uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const int value = base64_value(c);
    if (value < 0) return {};
    bits = (bits << 6) | static_cast<std::uint32_t>(value);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    decoded += static_cast<char>((bits >> n_bits) & 0xffU);
  }
  return decoded;
}

}  // namespace mpishards::serve

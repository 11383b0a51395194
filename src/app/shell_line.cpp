#include "app/shell_line.hpp"

#include <algorithm>

namespace mpishards::app {

namespace {

bool is_plain(char c) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  return kPlain.find(c) != std::string_view::npos;
}

/// In single quotes where a shell would take a character for its own.
std::string shell_word(const std::string& text) {
  if (!text.empty() && std::ranges::all_of(text, is_plain)) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

}  // namespace

std::string shell_line(std::string_view subcommand, const Arguments& arguments) {
  std::string line = "mpishards " + std::string(subcommand);
  for (const std::string& argument : arguments) line += " " + shell_word(argument);
  return line;
}

}  // namespace mpishards::app

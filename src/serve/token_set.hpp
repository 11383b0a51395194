#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mpishards::serve {

/// Who may come in: tokens, or user:password pairs.
class TokenSet {
 public:
  /// Lets everybody in.
  TokenSet() = default;
  /// One token a line; empty lines and lines that begin with # are left out.
  /// @throws Error{input_missing|permission|io}; Error{config} where the file holds no token
  static TokenSet read(const std::string& path);
  explicit TokenSet(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  bool is_open() const { return tokens_.empty(); }
  /// Takes the same time whatever the tokens hold: only the lengths show.
  bool admits(std::string_view token) const;

 private:
  std::vector<std::string> tokens_;
};

/// Empty where the text is no base64.
std::string decode_base64(std::string_view text);

}  // namespace mpishards::serve

#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/matrix_view.hpp"

namespace mpishards::serve {

/// A body that is no JSON object as the REST routes take it; what() is one sentence.
class RestSyntaxError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The JSON object of a REST request.
struct RestBody {
  nlohmann::json keys = nlohmann::json::object();  // all but the numbers of "data"
  bool has_vectors = false;                        // "data" is a list of lists of numbers
  Matrix vectors;                                  // its rows, float32

  /// Empty where the key is missing or null. @throws RequestError{invalid_parameter} where it is no text
  std::string text(std::string_view key) const;
  /// One text or a list of them; empty where the key is missing or null. @throws
  /// RequestError{invalid_parameter}
  std::vector<std::string> texts(std::string_view key) const;
  bool has(std::string_view key) const;
};

/// Reads a body in one pass: vectors go straight into their matrix, so that a request of many needs about as
/// much memory as its text. An empty body is an empty object.
///
/// Texts nested deeper than kMostJsonDepth and those with more than kMostJsonValues values beside the vectors
/// are refused: they would cost far more memory than they have bytes.
/// @throws RestSyntaxError; RequestError{invalid_parameter} where vectors differ in length or hold no numbers
RestBody parse_rest_body(std::string_view text);

inline constexpr int kMostJsonDepth = 32;
inline constexpr std::int64_t kMostJsonValues = 1'000'000;

}  // namespace mpishards::serve

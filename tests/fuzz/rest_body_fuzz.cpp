// libFuzzer: no body crashes the reader, and what it accepts is what the JSON library makes of it.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "serve/rest_body.hpp"
#include "serve/status.hpp"

using namespace mpishards::serve;

namespace {

void insist(bool holds) {
  if (!holds) std::abort();
}

/// Vectors that were read in passing are those of the whole document.
void compare_vectors(const RestBody& body, const nlohmann::json& data) {
  insist(data.is_array() && static_cast<std::int64_t>(data.size()) == body.vectors.rows());
  const auto* value = reinterpret_cast<const float*>(body.vectors.data());
  for (const auto& row : data) {
    insist(static_cast<std::int64_t>(row.size()) == body.vectors.cols());
    for (const auto& number : row) {
      const auto wanted = number.is_number_integer()
                              ? (number.is_number_unsigned() ? static_cast<float>(number.get<std::uint64_t>())
                                                             : static_cast<float>(number.get<std::int64_t>()))
                              : static_cast<float>(number.get<double>());
      insist(*value++ == wanted);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const RestBody body = parse_rest_body(text);
    for (const char* key : {"collectionName", "outputFields", "data", "id"}) {
      try {
        body.text(key);
        body.texts(key);
      } catch (const RequestError&) {
      }
    }
    if (body.has_vectors) compare_vectors(body, nlohmann::json::parse(text)["data"]);
  } catch (const RestSyntaxError&) {
  } catch (const RequestError&) {
  }
  return 0;
}

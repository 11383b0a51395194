#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace mpishards::serve {

/// What a request came to. The numbers are those that clients of the Milvus protocol see.
enum class Code : std::int32_t {
  ok = 0,
  not_ready = 1,     // the server starts or ends; try again
  memory_limit = 3,  // the request alone is beyond what the server may hold
  unimplemented = 10,
  collection_not_found = 100,
  collection_not_loaded = 101,
  partition_not_found = 200,
  index_not_found = 700,
  database_not_found = 800,
  invalid_parameter = 1100,
  unauthenticated = 1400,
  alias_not_found = 1600,
  field_not_found = 1700,
  read_only = 3000,
  cancelled = 10000,
  timeout = 10001,
  unexpected = 65535,
  overloaded = -1,  // the queue is full; has a status of its own on every wire, never this number
};

/// "collection_not_found", for logs and metrics.
std::string_view to_string(Code code);

/// A code and, where it is not ok, one sentence of cause and remedy.
struct Status {
  Code code = Code::ok;
  std::string reason;

  bool is_ok() const { return code == Code::ok; }
};

/// Whether a byte of UTF-8 text goes on with a character that began before it.
constexpr bool is_inside_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

/// The first bytes of a text that a client chose, so that it can fill neither answers nor logs; ends between
/// two characters of UTF-8.
std::string shortened(std::string_view text, std::size_t most_bytes);

/// A request that can't be answered; becomes its answer's Status.
class RequestError : public std::runtime_error {
 public:
  /// @param reason  may quote the client: what is beyond 1000 bytes is cut off
  RequestError(Code code, std::string_view reason);
  Code code() const noexcept { return code_; }
  Status status() const { return {code_, what()}; }

 private:
  Code code_;
};

/// The status of a failure that is being handled; call inside a catch block.
Status status_of_current_exception();

}  // namespace mpishards::serve

#include "serve/status.hpp"

#include <exception>
#include <new>

#include "core/error.hpp"

namespace mpishards::serve {
namespace {

constexpr std::size_t kMostReasonBytes = 1000;

}  // namespace

std::string_view to_string(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::not_ready:
      return "not_ready";
    case Code::memory_limit:
      return "memory_limit";
    case Code::unimplemented:
      return "unimplemented";
    case Code::collection_not_found:
      return "collection_not_found";
    case Code::collection_not_loaded:
      return "collection_not_loaded";
    case Code::partition_not_found:
      return "partition_not_found";
    case Code::index_not_found:
      return "index_not_found";
    case Code::database_not_found:
      return "database_not_found";
    case Code::invalid_parameter:
      return "invalid_parameter";
    case Code::unauthenticated:
      return "unauthenticated";
    case Code::alias_not_found:
      return "alias_not_found";
    case Code::field_not_found:
      return "field_not_found";
    case Code::read_only:
      return "read_only";
    case Code::cancelled:
      return "cancelled";
    case Code::timeout:
      return "timeout";
    case Code::overloaded:
      return "overloaded";
    case Code::unexpected:
      break;
  }
  return "unexpected";
}

std::string shortened(std::string_view text, std::size_t most_bytes) {
  if (text.size() <= most_bytes) return std::string(text);
  std::size_t end = most_bytes;
  while (end > 0 && is_inside_character(text[end])) --end;
  return std::string(text.substr(0, end)) + "...";
}

RequestError::RequestError(Code code, std::string_view reason)
    : std::runtime_error(shortened(reason, kMostReasonBytes)), code_(code) {}

Status status_of_current_exception() {
  try {
    throw;
  } catch (const RequestError& error) {
    return error.status();
  } catch (const Error& error) {
    return {error.kind() == ErrorKind::usage ? Code::invalid_parameter : Code::unexpected,
            shortened(error.what(), kMostReasonBytes)};
  } catch (const std::bad_alloc&) {
    return {Code::memory_limit, "the server has no memory for this request; ask for less at once"};
  } catch (const std::exception& error) {
    return {Code::unexpected, error.what()};
  }
}

}  // namespace mpishards::serve

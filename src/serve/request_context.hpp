#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace mpishards::serve {

/// What surrounds one request, whatever wire it came by. Made by the front, shared with the engine's thread.
struct RequestContext {
  using Clock = std::chrono::steady_clock;

  std::string front;        // "grpc", "rest"
  std::string method;       // "Search"
  std::string peer;         // address of the client, for the access log
  std::string request_id;   // the client's own, may be empty
  std::string traceparent;  // W3C trace context as it came, may be empty
  std::int64_t request_bytes = 0;
  Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> deadline;
  std::atomic<bool> is_cancelled{false};  // set by the front when the client has gone

  bool is_expired(Clock::time_point now = Clock::now()) const { return deadline && now >= *deadline; }
};
using ContextPtr = std::shared_ptr<RequestContext>;

}  // namespace mpishards::serve

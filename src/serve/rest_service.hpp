#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "serve/request_context.hpp"
#include "serve/rest_body.hpp"
#include "serve/server.hpp"

namespace mpishards::serve {

/// What goes back to an HTTP client.
struct HttpAnswer {
  int http_status = 200;
  std::string body;
  std::string content_type = "application/json";
};

/// Who asks, and how the answer is to be written.
struct RestCaller {
  bool int64_as_text = false;  // for clients whose numbers are doubles
  /// Asked while the answer is awaited: false cancels the request.
  std::function<bool()> is_there;
};

/// What a request came to, over HTTP: {"code":N,"message":"..."} with the numbers of Milvus. Application
/// errors keep HTTP status 200, as in Milvus; those that concern HTTP clients at large get one of their own.
HttpAnswer refusal(const Status& status);

/// Codes of the REST layer itself.
enum class RestCode : std::int32_t {
  needs_authentication = 1800,
  malformed_json = 1801,
  missing_parameter = 1802,
  rate_limit = 1807,
};
HttpAnswer refusal(int http_status, RestCode code, const std::string& reason);

/// The routes of Milvus' REST API v2 that read, on the transport-neutral service.
class RestService {
 public:
  explicit RestService(const FrontContext& front) : front_(front) {}

  /// Paths below /v2/vectordb/ that are answered, reads and refused writes alike; each is a POST.
  static const std::vector<std::string>& routes();
  /// The name of a route for metrics and the access log. @pre route is one of routes()
  static std::string method_of(const std::string& route);

  /// Answers one request and reports it to the observer. Waits for the answer. @pre route is one of routes()
  /// @param context  front, method, peer, begin and deadline are filled in
  HttpAnswer answer(const std::string& route, std::string_view body, const ContextPtr& context,
                    const RestCaller& caller) const;

 private:
  FrontContext front_;
};

}  // namespace mpishards::serve

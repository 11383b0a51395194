#include "serve/http_front.hpp"

#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "core/version.hpp"
#include "serve/http_connection.hpp"
#include "serve/rest_service.hpp"
#include "serve/trace_context.hpp"

namespace mpishards::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kRestRoot = "/v2/vectordb/";
constexpr const char* kJson = "application/json";
constexpr const char* kText = "text/plain; charset=utf-8";

constexpr int kConnections = 32;  // served at once, a thread each; more wait
constexpr int kWaitingConnections = 1024;
constexpr time_t kReadSeconds = 10;
constexpr time_t kWriteSeconds = 30;
constexpr std::size_t kSkippedBytes = 1 << 20;
constexpr std::int64_t kMostBodyBytes = std::int64_t{64} << 20;

/// Bytes of bodies in memory, of all connections together.
class BodyBudget {
 public:
  explicit BodyBudget(std::int64_t limit) : limit_(limit) {}

  bool take(std::int64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= limit_) return true;
    used_ -= bytes;
    return false;
  }
  void give_back(std::int64_t bytes) { used_ -= bytes; }

 private:
  const std::int64_t limit_;
  std::atomic<std::int64_t> used_ = 0;
};

/// One request's body, as long as it is in memory.
class Body {
 public:
  explicit Body(BodyBudget& budget) : budget_(budget) {}
  ~Body() { budget_.give_back(static_cast<std::int64_t>(text_.size())); }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  /// Empty where all of the body was read; else what to answer.
  std::optional<HttpAnswer> read(const httplib::ContentReader& reader) {
    std::optional<HttpAnswer> refused;
    const bool is_complete = reader([&](const char* data, std::size_t length) {
      refused = refusal_of(static_cast<std::int64_t>(length));
      if (!refused) text_.append(data, length);
      return !refused;
    });
    if (refused || is_complete) return refused;
    return refusal(400, RestCode::malformed_json,
                   "the body is cut short, or took more than a minute to arrive");
  }

  const std::string& text() const { return text_; }

 private:
  std::optional<HttpAnswer> refusal_of(std::int64_t bytes) {
    if (std::ssize(text_) + bytes > kMostBodyBytes) {
      return refusal(
          413, RestCode::malformed_json,
          "the body has more than " + std::to_string(kMostBodyBytes) + " bytes; send several requests");
    }
    if (budget_.take(bytes)) return std::nullopt;
    return refusal(429, RestCode::rate_limit, "too many large requests at once; try again later");
  }

  BodyBudget& budget_;
  std::string text_;
};

void send(const HttpAnswer& answer, httplib::Response& response) {
  response.status = answer.http_status;
  response.set_content(answer.body, answer.content_type);
}

void send_and_close(const HttpAnswer& answer, httplib::Response& response) {
  send(answer, response);
  response.set_header("Connection", "close");
  HttpConnection::current().close_after_answer();
}

std::string sentence_of(int http_status) {
  switch (http_status) {
    case 400:
      return "this is no HTTP request that the server understands";
    case 404:
      return "there is nothing here; see /healthz /readyz /metrics /version /shards and POST "
             "/v2/vectordb/...";
    case 413:
      return "the body is too large";
    case 414:
      return "the address is too long";
    default:
      return "the request could not be answered";
  }
}

/// The credential of a request: a token, or user:password.
std::string credential_of(const httplib::Request& request) {
  constexpr std::string_view kBearer = "Bearer ";
  constexpr std::string_view kBasic = "Basic ";
  const std::string header = request.get_header_value("Authorization");
  if (header.starts_with(kBearer)) return header.substr(kBearer.size());
  if (header.starts_with(kBasic)) return decode_base64(std::string_view(header).substr(kBasic.size()));
  return {};
}

bool is_probe(const std::string& path) {
  return path == "/healthz" || path == "/readyz";
}

/// Seconds that the client waits, from its header. Nothing where there is none or it makes no sense.
std::optional<double> timeout_of(const httplib::Request& request) {
  const std::string text = request.get_header_value("Request-Timeout");
  double seconds = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  constexpr double kDay = 86400;
  if (error != std::errc() || stop != text.data() + text.size() || !(seconds > 0 && seconds < kDay))
    return {};
  return seconds;
}

ContextPtr context_of(const httplib::Request& request, const std::string& method, std::int64_t body_bytes,
                      RequestContext::Clock::time_point begin) {
  auto context = std::make_shared<RequestContext>();
  context->front = "rest";
  context->method = method;
  context->peer = request.remote_addr + ":" + std::to_string(request.remote_port);
  context->request_id = request.get_header_value("client-request-id");
  context->traceparent = request.get_header_value("traceparent");
  context->request_bytes = body_bytes;
  context->begin = begin;
  if (const auto seconds = timeout_of(request)) {
    context->deadline = begin + std::chrono::duration_cast<RequestContext::Clock::duration>(
                                    std::chrono::duration<double>(*seconds));
  }
  return context;
}

/// A second server on the same port is an error, not a partner: only the address is shared with old
/// connections.
void share_address(socket_t socket) {
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

std::unique_ptr<httplib::Server> make_server(const ServerConfig& config) {
  if (config.tls_cert.empty()) return std::make_unique<GuardedServer<httplib::Server>>();
  return std::make_unique<GuardedServer<httplib::SSLServer>>(config.tls_cert.c_str(), config.tls_key.c_str());
}

class HttpFront final : public Front {
 public:
  HttpFront(const FrontContext& context, const Observability& observability)
      : front_(context),
        observability_(observability),
        rest_(context),
        budget_(std::max(context.config.message_bytes, kMostBodyBytes)),
        listen_(parse_address(context.config.http)),
        server_(make_server(context.config)) {
    configure();
    add_routes();
    bind();
    thread_ = std::thread([this] { server_->listen_after_bind(); });
    while (!server_->is_running())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // stop() needs it
  }

  ~HttpFront() override { shut_down(std::chrono::system_clock::now()); }

  std::string address() const override {
    const bool is_v6 = listen_.host.find(':') != std::string::npos;
    return (is_v6 ? "[" + listen_.host + "]" : listen_.host) + ":" + std::to_string(port_);
  }

  /// Requests at work are answered first: they wait for the engine, which answers all that it has accepted.
  void shut_down(std::chrono::system_clock::time_point /*deadline*/) override {
    if (!thread_.joinable()) return;
    server_->stop();
    thread_.join();
  }

 private:
  void configure() {
    server_->new_task_queue = [] { return new httplib::ThreadPool(kConnections); };
    server_->set_read_timeout(kReadSeconds);
    server_->set_write_timeout(kWriteSeconds);
    server_->set_payload_max_length(static_cast<std::size_t>(kMostBodyBytes));
    server_->set_tcp_nodelay(true);
    server_->set_socket_options([this](socket_t socket) {
      share_address(socket);
      listening_ = socket;
    });
    server_->set_default_headers({{"Server", "mpishards"}, {"X-Content-Type-Options", "nosniff"}});
    server_->set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      const auto refused = refuse_at_the_door(request);
      if (!refused) return httplib::Server::HandlerResponse::Unhandled;
      if (refused->http_status == 401) response.set_header("WWW-Authenticate", "Bearer");
      if (refused->http_status == 405)
        response.set_header("Allow", is_rest(request.path) ? "POST" : "GET, HEAD");
      send_and_close(*refused, response);
      return httplib::Server::HandlerResponse::Handled;
    });
    server_->set_error_handler([](const httplib::Request& request, httplib::Response& response) {
      // The library would cut the asked-for ranges out of the sentence.
      if (response.body.empty() && !request.has_header("Range")) {
        send_and_close(refusal(response.status, RestCode::malformed_json, sentence_of(response.status)),
                       response);
      }
    });
    server_->set_exception_handler(
        [](const httplib::Request& /*request*/, httplib::Response& response, std::exception_ptr failure) {
          Status status;
          try {
            std::rethrow_exception(std::move(failure));
          } catch (...) {
            status = status_of_current_exception();
          }
          send_and_close(refusal(status), response);
          response.status = 500;
        });
  }

  /// Before a byte of the body is read. What the library would do with other methods, forms, ranges and
  /// bodies without end is not needed here, and not all of it is bounded.
  std::optional<HttpAnswer> refuse_at_the_door(const httplib::Request& request) const {
    const bool is_rest_path = is_rest(request.path);
    const bool is_known =
        is_rest_path || std::find(kPages.begin(), kPages.end(), request.path) != kPages.end();
    if (!is_known) return refusal(404, RestCode::malformed_json, sentence_of(404));
    const bool is_right_method =
        is_rest_path ? request.method == "POST" : request.method == "GET" || request.method == "HEAD";
    if (!is_right_method) {
      return refusal(405, RestCode::malformed_json, is_rest_path ? "use POST here" : "use GET here");
    }
    if (request.has_header("Range")) return HttpAnswer{416, "", kText};
    if (is_rest_path) return refuse_body(request);
    return is_probe(request.path) || is_admitted(request) ? std::nullopt : std::optional(stranger());
  }

  bool is_admitted(const httplib::Request& request) const {
    return front_.tokens.admits(credential_of(request));
  }

  static HttpAnswer stranger() {
    return refusal(
        {Code::unauthenticated, "send the header Authorization: Bearer, and a valid token or user:password"});
  }

  /// Whoever tries tokens is seen in the metrics and the access log.
  void refuse_stranger(const std::string& route, const httplib::Request& request,
                       const httplib::ContentReader& reader, httplib::Response& response) const {
    RequestRecord record;
    record.context = context_of(request, RestService::method_of(route), 0, RequestContext::Clock::now());
    record.status.code = Code::unauthenticated;
    front_.observer.request_begun(*record.context);
    front_.observer.request_finished(record);
    response.set_header("WWW-Authenticate", "Bearer");
    // Clients that still send would miss an answer before the end of a small body.
    std::size_t skipped = 0;
    const bool is_read = reader([&](const char*, std::size_t length) {
      skipped += length;
      return skipped <= kSkippedBytes;
    });
    if (is_read) return send(stranger(), response);
    send_and_close(stranger(), response);
  }

  static std::optional<HttpAnswer> refuse_body(const httplib::Request& request) {
    if (request.is_multipart_form_data())
      return refusal(415, RestCode::malformed_json, "send application/json");
    if (request.get_header_value("Transfer-Encoding") == "chunked") return std::nullopt;
    const std::string text = request.get_header_value("Content-Length");
    std::int64_t length = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    if (error == std::errc::result_out_of_range || length > kMostBodyBytes) {
      return refusal(
          413, RestCode::malformed_json,
          "the body has more than " + std::to_string(kMostBodyBytes) + " bytes; send several requests");
    }
    if (error != std::errc() || stop != text.data() + text.size() || length < 0) {
      return refusal(411, RestCode::malformed_json, "send the header Content-Length");
    }
    return std::nullopt;
  }

  static bool is_rest(const std::string& path) {
    if (!path.starts_with(kRestRoot)) return false;
    const auto& routes = RestService::routes();
    return std::find(routes.begin(), routes.end(), path.substr(kRestRoot.size())) != routes.end();
  }

  void add_routes() {
    get("/healthz", [](const httplib::Request& request) { return healthz(request); });
    get("/readyz", [this](const httplib::Request& /*request*/) { return readyz(); });
    get("/metrics", [this](const httplib::Request& /*request*/) { return metrics(); });
    get("/version", [](const httplib::Request& /*request*/) { return version_answer(); });
    get("/shards", [this](const httplib::Request& /*request*/) { return shards(); });
    for (const std::string& route : RestService::routes()) {
      server_->Post(
          std::string(kRestRoot) + route,
          [this, route](const httplib::Request& request, httplib::Response& response,
                        const httplib::ContentReader& reader) { post(route, request, reader, response); });
    }
  }

  void get(const std::string& path, std::function<HttpAnswer(const httplib::Request&)> answer) {
    server_->Get(path,
                 [answer = std::move(answer)](const httplib::Request& request, httplib::Response& response) {
                   send(answer(request), response);
                 });
  }

  void post(const std::string& route, const httplib::Request& request, const httplib::ContentReader& reader,
            httplib::Response& response) {
    HttpConnection::current().begin_body();
    if (!is_admitted(request)) return refuse_stranger(route, request, reader, response);
    const auto begin = RequestContext::Clock::now();
    Body body(budget_);
    if (const auto refused = body.read(reader)) return send_and_close(*refused, response);
    const ContextPtr context =
        context_of(request, RestService::method_of(route), std::ssize(body.text()), begin);
    const RestCaller caller{request.get_header_value("Accept-Type-Allow-Int64") == "false",
                            [] { return HttpConnection::current().has_client(); }};
    send(rest_.answer(route, body.text(), context, caller), response);
    response.set_header("X-Trace-Id", trace_of(*context).trace_id);
  }

  /// Alive: this thread answers. As Milvus says it.
  static HttpAnswer healthz(const httplib::Request& request) {
    if (request.get_header_value("Content-Type") == kJson)
      return {200, R"({"state":"OK","detail":[]})", kJson};
    return {200, "OK", kText};
  }

  HttpAnswer readyz() const {
    if (front_.state.is_ready) return {200, "OK", kText};
    return {503, front_.state.is_draining ? "the server is ending\n" : "collections are being loaded\n",
            kText};
  }

  HttpAnswer metrics() const {
    Scrape scrape;
    scrape.is_ready = front_.state.is_ready;
    scrape.is_draining = front_.state.is_draining;
    scrape.queued_requests = front_.batcher.queued_requests();
    scrape.queued_bytes = front_.batcher.queued_bytes();
    scrape.queue_limit_bytes = front_.batcher.config().queue_bytes;
    for (const CollectionPtr& info : front_.catalogue.all()) {
      scrape.ranks = std::max(scrape.ranks, static_cast<int>(info->shards.size()));
    }
    return {200, observability_.metrics_text(scrape), kMetricsContentType};
  }

  static HttpAnswer version_answer() {
    const Json json = {{"name", "mpishards"},
                       {"version", version()},
                       {"revision", revision()},
                       {"build_type", build_type()}};
    return {200, json.dump(), kJson};
  }

  /// Who holds what, for people and scripts.
  HttpAnswer shards() const {
    Json collections = Json::array();
    for (const CollectionPtr& info : front_.catalogue.all()) {
      Json shards = Json::array();
      for (const ShardInfo& shard : info->shards) {
        shards.push_back({{"rank", shard.rank},
                          {"host", shard.host},
                          {"rows", shard.rows},
                          {"bytes", shard.bytes},
                          {"load_seconds", shard.load_seconds}});
      }
      collections.push_back({{"collection", info->name},
                             {"is_loaded", info->state == LoadState::loaded},
                             {"generation", info->generation},
                             {"metric", to_string(info->metric)},
                             {"dtype", to_string(info->dtype)},
                             {"dim", info->dim},
                             {"rows", info->rows},
                             {"dropped_rows", info->dropped_rows},
                             {"shards", std::move(shards)}});
    }
    return {200, Json({{"collections", std::move(collections)}}).dump(), kJson};
  }

  void bind() {
    const int wanted = listen_.port;
    if (!server_->is_valid()) {
      throw Error(ErrorKind::unavailable,
                  "the TLS certificate or key can't be used for " + front_.config.http);
    }
    port_ = wanted == 0 ? server_->bind_to_any_port(listen_.host)
                        : (server_->bind_to_port(listen_.host, wanted) ? wanted : -1);
    // The library's own queue of five makes bursts of clients wait for a second.
    if (port_ > 0 && ::listen(listening_, kWaitingConnections) == 0) return;
    throw Error(ErrorKind::unavailable,
                "can't listen on " + front_.config.http + ": is the port taken, the address this host's?");
  }

  static constexpr std::array<std::string_view, 5> kPages = {"/healthz", "/readyz", "/metrics", "/version",
                                                             "/shards"};

  const FrontContext front_;
  const Observability& observability_;
  const RestService rest_;
  BodyBudget budget_;
  const Address listen_;
  const std::unique_ptr<httplib::Server> server_;
  socket_t listening_ = INVALID_SOCKET;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Front> make_http_front(const FrontContext& context, const Observability& observability) {
  return std::make_unique<HttpFront>(context, observability);
}

}  // namespace mpishards::serve

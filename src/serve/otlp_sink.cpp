#include <httplib.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "core/error.hpp"
#include "core/version.hpp"
#include "serve/trace.hpp"

namespace mpishards::serve {
namespace {

using Json = nlohmann::ordered_json;

// Numbers of the OpenTelemetry protocol.
constexpr int kSpanKindInternal = 1;
constexpr int kSpanKindServer = 2;
constexpr int kStatusCodeError = 2;

Json attribute(const Span::Attribute& attribute) {
  const auto& [key, value] = attribute;
  // 64-bit integers are text in the JSON form of protobuf.
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    return {{"key", key}, {"value", {{"intValue", std::to_string(*number)}}}};
  }
  return {{"key", key}, {"value", {{"stringValue", std::get<std::string>(value)}}}};
}

Json span_json(const RequestTrace& trace, const Span& span, bool is_request) {
  Json json = {{"traceId", trace.trace_id},
               {"spanId", span.id},
               {"name", span.name},
               {"kind", is_request ? kSpanKindServer : kSpanKindInternal},
               {"startTimeUnixNano", std::to_string(span.begin_ns)},
               {"endTimeUnixNano", std::to_string(span.end_ns)},
               {"attributes", Json::array()}};
  if (!span.parent_id.empty()) json["parentSpanId"] = span.parent_id;
  for (const auto& each : span.attributes) json["attributes"].push_back(attribute(each));
  if (is_request && !trace.error.empty()) {
    json["status"] = {{"code", kStatusCodeError}, {"message", trace.error}};
  }
  return json;
}

class OtlpSink final : public TraceSink {
 public:
  OtlpSink(const std::string& server, std::string path) : client_(server), path_(std::move(path)) {
    constexpr time_t kSeconds = 2;
    client_.set_connection_timeout(kSeconds);
    client_.set_read_timeout(kSeconds);
    client_.set_write_timeout(kSeconds);
    client_.set_keep_alive(true);
  }

  std::int64_t write(const std::vector<RequestTrace>& traces) override {
    const auto answer = client_.Post(path_, otlp_json(traces), "application/json");
    const bool is_delivered = answer && answer->status >= 200 && answer->status < 300;
    return is_delivered ? 0 : static_cast<std::int64_t>(traces.size());
  }

 private:
  httplib::Client client_;
  const std::string path_;
};

}  // namespace

std::string otlp_json(const std::vector<RequestTrace>& traces) {
  Json spans = Json::array();
  for (const RequestTrace& trace : traces) {
    for (std::size_t i = 0; i < trace.spans.size(); ++i) {
      spans.push_back(span_json(trace, trace.spans[i], i == 0));
    }
  }
  const Json resource = {
      {"attributes",
       {attribute({"service.name", "mpishards"}), attribute({"service.version", std::string(version())})}}};
  const Json scope = {{"scope", {{"name", "mpishards"}}}, {"spans", std::move(spans)}};
  const Json body = {{"resourceSpans", {{{"resource", resource}, {"scopeSpans", {scope}}}}}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::unique_ptr<TraceSink> make_otlp_sink(const std::string& endpoint) {
  static const std::regex kAddress(R"((https?://[A-Za-z0-9.\[\]:_-]+)(/[!-~]*)?)");
  std::smatch parts;
  if (endpoint.size() > 1024 || !std::regex_match(endpoint, parts, kAddress)) {
    throw Error(ErrorKind::usage,
                "'" + endpoint + "' is no address of a trace collector; write http://host:4318");
  }
  constexpr std::string_view kTraces = "/v1/traces";
  std::string path = parts[2];
  while (path.ends_with('/')) path.pop_back();
  if (!path.ends_with(kTraces)) path += kTraces;
  return std::make_unique<OtlpSink>(parts[1], std::move(path));
}

}  // namespace mpishards::serve

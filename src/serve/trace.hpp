#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "serve/background_writer.hpp"
#include "serve/observer.hpp"
#include "serve/trace_context.hpp"

namespace mpishards::serve {

/// One timed step of one request. Times are nanoseconds since 1970.
struct Span {
  using Attribute = std::pair<std::string, std::variant<std::int64_t, std::string>>;

  std::string name;
  std::string id;         // 16 hex digits
  std::string parent_id;  // empty: none
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  std::vector<Attribute> attributes;
  int rank = -1;  // of a search on one rank
};

/// All spans of one request, the request's own first.
struct RequestTrace {
  std::string trace_id;
  std::string error;  // name of the request's status where it failed
  std::vector<Span> spans;
};

/// The request, `queue`, and for each of its batches `get_routing`, `do_search` with one `search_<host>` a
/// rank, and `do_merge`. A request that no batch answered has its own span alone.
/// @param end  when it was answered
RequestTrace trace_of_request(const RequestRecord& record, std::chrono::system_clock::time_point end);

/// Where traces go. Called on the tracer's thread only.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  /// @return how many of them could not be delivered; they are not tried again
  virtual std::int64_t write(const std::vector<RequestTrace>& traces) = 0;
};

/// Posts to an OpenTelemetry collector: OTLP/HTTP with JSON bodies. A collector that is away for a while
/// costs the traces of that while and nothing else.
/// @param endpoint  http://host:4318; /v1/traces is added unless it ends so
/// @throws Error{usage} where the endpoint is not such an address
std::unique_ptr<TraceSink> make_otlp_sink(const std::string& endpoint);

/// Writes a file in the Chrome trace format, which Perfetto and chrome://tracing show. One that exists is
/// replaced. @throws Error{cannot_create|permission|input_missing}
std::unique_ptr<TraceSink> make_trace_file_sink(const std::filesystem::path& path);

/// The body of one OTLP export.
std::string otlp_json(const std::vector<RequestTrace>& traces);

/// Keeps the traces of sampled requests. A client that sends a traceparent decides for its own requests; of
/// all others a share is kept. A thread of its own exports; what it has no room for is dropped and counted.
class Tracer final : public Observer {
 public:
  /// @param ratio  share of requests without a parent, 0 to 1
  Tracer(std::unique_ptr<TraceSink> sink, double ratio, std::size_t capacity = 2048);

  void request_finished(const RequestRecord& record) override;

  /// Waits until all traces so far were handed to the sink.
  void flush() { writer_.flush(); }
  /// Traces that were sampled and then lost.
  std::int64_t dropped() const { return writer_.dropped() + failed_; }

 private:
  const std::unique_ptr<TraceSink> sink_;
  const double ratio_;
  std::atomic<std::int64_t> failed_ = 0;
  BackgroundWriter<RequestTrace> writer_;  // last: its thread uses the sink
};

}  // namespace mpishards::serve

#include "serve/trace.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace mpishards::serve {
namespace {

std::int64_t nanoseconds(double seconds) {
  return std::llround(seconds * 1e9);
}

std::int64_t nanoseconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Numbers the spans of one request and hangs them below each other.
class SpanTree {
 public:
  SpanTree(const RequestContext& context, RequestTrace& trace) : context_(context), trace_(trace) {}

  Span& add(std::string name, const std::string& parent_id, std::int64_t begin_ns, std::int64_t seconds_ns) {
    Span span;
    span.name = std::move(name);
    span.id = span_id_of(context_, static_cast<int>(trace_.spans.size()));
    span.parent_id = parent_id;
    span.begin_ns = begin_ns;
    span.end_ns = begin_ns + std::max<std::int64_t>(seconds_ns, 0);
    trace_.spans.push_back(std::move(span));
    return trace_.spans.back();
  }

 private:
  const RequestContext& context_;
  RequestTrace& trace_;
};

void add_batch(SpanTree& tree, const std::string& parent_id, const BatchRecord& batch) {
  const std::int64_t begin = nanoseconds(batch.begin);
  const std::int64_t end = begin + nanoseconds(batch.total_seconds);
  const std::int64_t search_begin = begin + nanoseconds(batch.scatter_seconds);
  tree.add("get_routing", parent_id, begin, search_begin - begin);

  double slowest = 0;
  for (const double seconds : batch.search_seconds) slowest = std::max(slowest, seconds);
  Span& search = tree.add("do_search", parent_id, search_begin, nanoseconds(slowest));
  search.attributes = {{"mpishards.batch.requests", batch.requests},
                       {"mpishards.batch.queries", batch.queries},
                       {"mpishards.batch.k", batch.k}};
  const std::string search_id = search.id;
  const std::int64_t search_end = search.end_ns;
  for (std::size_t rank = 0; rank < batch.search_seconds.size(); ++rank) {
    const std::string host =
        rank < batch.search_hosts.size() ? batch.search_hosts[rank] : std::to_string(rank);
    Span& span = tree.add("search_" + host, search_id, search_begin, nanoseconds(batch.search_seconds[rank]));
    span.rank = static_cast<int>(rank);
    span.attributes = {{"mpishards.rank", span.rank}};
  }
  // Rank 0 is in the merge as soon as its own search is done; the merge itself waits for the slowest rank.
  tree.add("do_merge", parent_id, search_end, end - search_end);
}

}  // namespace

RequestTrace trace_of_request(const RequestRecord& record, std::chrono::system_clock::time_point end) {
  const RequestContext& context = *record.context;
  const TraceContext parent = trace_of(context);
  RequestTrace trace;
  trace.trace_id = parent.trace_id;
  if (!record.status.is_ok()) trace.error = to_string(record.status.code);

  SpanTree tree(context, trace);
  const std::int64_t begin = nanoseconds(end) - nanoseconds(record.total_seconds);
  Span& request = tree.add(context.method, parent.parent_span_id, begin, nanoseconds(record.total_seconds));
  request.attributes = {{"mpishards.front", context.front},
                        {"mpishards.collection", record.collection},
                        {"mpishards.queries", record.queries},
                        {"mpishards.k", record.k},
                        {"mpishards.status", std::string(to_string(record.status.code))}};
  const std::string request_id = request.id;
  if (record.batches.empty()) return trace;
  tree.add("queue", request_id, begin, nanoseconds(record.queue_seconds));
  for (const auto& batch : record.batches) add_batch(tree, request_id, *batch);
  return trace;
}

Tracer::Tracer(std::unique_ptr<TraceSink> sink, double ratio, std::size_t capacity)
    : sink_(std::move(sink)),
      ratio_(ratio),
      writer_(capacity, std::chrono::milliseconds(500),
              [this](const std::vector<RequestTrace>& traces) { failed_ += sink_->write(traces); }) {}

void Tracer::request_finished(const RequestRecord& record) {
  const TraceContext trace = trace_of(*record.context);
  const bool has_parent = !trace.parent_span_id.empty();
  if (has_parent ? !trace.is_sampled : !is_in_sample(trace.trace_id, ratio_)) return;
  writer_.push(trace_of_request(record, std::chrono::system_clock::now()));
}

}  // namespace mpishards::serve

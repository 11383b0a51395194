#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "serve/request_context.hpp"

namespace mpishards::serve {

/// Where a request belongs among the traces of its client.
struct TraceContext {
  std::string trace_id;        // 32 lower-case hex digits, not all zero
  std::string parent_span_id;  // 16 of them; empty: this server began the trace
  bool is_sampled = false;     // by the parent; false where there is none
};

/// A traceparent header, read as strictly as W3C Trace Context demands; nothing where it is not valid.
std::optional<TraceContext> parse_traceparent(std::string_view header);

/// The trace of a request: the client's, or one that the request's address and time of arrival make unique in
/// this process, and a random seed among processes. The same at every call for the life of the context.
TraceContext trace_of(const RequestContext& context);

/// Whether a trace that no parent decided about is kept: the same for all of its spans, a share `ratio` of
/// all.
bool is_in_sample(std::string_view trace_id, double ratio);

/// 16 hex digits for the span number `place` of a request: unique within the trace, the same at every call.
std::string span_id_of(const RequestContext& context, int place);

}  // namespace mpishards::serve

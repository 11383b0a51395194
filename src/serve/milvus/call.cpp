#include "serve/milvus/call.hpp"

#include <limits>

namespace mpishards::serve::milvus {

namespace {

std::optional<RequestContext::Clock::time_point> deadline_of(const grpc::CallbackServerContext& wire) {
  using std::chrono::system_clock;
  const system_clock::time_point deadline = wire.deadline();
  if (deadline == system_clock::time_point::max()) return std::nullopt;
  return RequestContext::Clock::now() +
         std::chrono::duration_cast<RequestContext::Clock::duration>(deadline - system_clock::now());
}

}  // namespace

Call::Call(grpc::CallbackServerContext& context, std::string method, const google::protobuf::Message& request,
           Observer& observer)
    : wire_(context), observer_(observer), context_(std::make_shared<RequestContext>()) {
  context_->front = "grpc";
  context_->method = std::move(method);
  context_->peer = wire_.peer();
  context_->request_bytes = static_cast<std::int64_t>(request.ByteSizeLong());
  context_->deadline = deadline_of(wire_);
  context_->traceparent = header("traceparent");
  context_->request_id = header("client-request-id");
  if (context_->request_id.empty()) context_->request_id = header("client_request_id");
  observer_.request_begun(*context_);
}

std::string Call::header(const std::string& name) const {
  const auto& metadata = wire_.client_metadata();
  const auto found = metadata.find(name);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

std::string Call::database(const std::string& in_request) const {
  return in_request.empty() ? header("dbname") : in_request;
}

bool Call::is_admitted(const TokenSet& tokens) const {
  return tokens.is_open() || tokens.admits(decode_base64(header("authorization")));
}

void Call::answer(const google::protobuf::Message& response, RequestRecord record) {
  const std::size_t bytes = response.ByteSizeLong();
  if (bytes > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    record.status = {Code::memory_limit, "the answer has " + std::to_string(bytes) +
                                             " bytes, more than a message may; ask for less at once"};
    return refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, std::move(record));
  }
  record.answer_bytes = static_cast<std::int64_t>(bytes);
  report(std::move(record));
  Finish(grpc::Status::OK);
}

void Call::refuse(grpc::StatusCode code, RequestRecord record) {
  const std::string reason = record.status.reason;
  report(std::move(record));
  Finish(grpc::Status(code, reason));
}

void Call::report(RequestRecord record) {
  record.context = context_;
  record.total_seconds =
      std::chrono::duration<double>(RequestContext::Clock::now() - context_->begin).count();
  observer_.request_finished(record);
}

}  // namespace mpishards::serve::milvus

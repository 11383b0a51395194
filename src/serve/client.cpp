#include "serve/client.hpp"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "core/error.hpp"
#include "io/file.hpp"
#include "milvus.grpc.pb.h"
#include "serve/milvus/translate.hpp"
#include "serve/search_service.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {

namespace {

namespace common = milvus::common;
namespace pb = milvus::pb;

std::string base64(const std::string& text) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string encoded;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < text.size() ? static_cast<unsigned char>(text[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j)
      encoded += i + j > text.size() ? '=' : kLetters[(bits >> (18 - 6 * j)) & 0x3fU];
  }
  return encoded;
}

std::shared_ptr<grpc::ChannelCredentials> credentials(const ClientConfig& config) {
  if (config.tls_ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = io::read_text(config.tls_ca);
  return grpc::SslCredentials(options);
}

void check_wire(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return;
  const ErrorKind kind = status.error_code() == grpc::StatusCode::UNAUTHENTICATED ? ErrorKind::permission
                                                                                  : ErrorKind::unavailable;
  throw Error(kind, address + ": " + status.error_message());
}

void check_status(const common::Status& status, const std::string& address) {
  if (status.code() == 0 && status.error_code() == common::Success) return;
  const bool is_own_fault = status.code() == static_cast<int>(Code::collection_not_found) ||
                            status.code() == static_cast<int>(Code::invalid_parameter);
  throw Error(is_own_fault ? ErrorKind::usage : ErrorKind::unavailable, address + ": " + status.reason());
}

std::string placeholder_group(MatrixView<const float> queries) {
  common::PlaceholderGroup group;
  common::PlaceholderValue& value = *group.add_placeholders();
  value.set_tag("$0");
  value.set_type(common::FloatVector);
  for (std::int64_t q = 0; q < queries.rows; ++q)
    value.add_values(queries.row(q), static_cast<std::size_t>(queries.cols) * sizeof(float));
  return group.SerializeAsString();
}

}  // namespace

struct Client::Wire {
  ClientConfig config;
  std::unique_ptr<pb::MilvusService::Stub> stub;

  /// Calls one RPC. @throws Error
  template <class Request, class Response>
  Response call(grpc::Status (pb::MilvusService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                Response*),
                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + config.timeout);
    if (!config.token.empty()) context.AddMetadata("authorization", base64(config.token));
    Response response;
    check_wire(((*stub).*method)(&context, request, &response), config.address);
    check_status(response.status(), config.address);
    return response;
  }
};

Client::Client(const ClientConfig& config) : wire_(std::make_unique<Wire>()) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  wire_->config = config;
  wire_->stub =
      pb::MilvusService::NewStub(grpc::CreateCustomChannel(config.address, credentials(config), arguments));
}

Client::~Client() = default;

std::string Client::ping() {
  using Stub = pb::MilvusService::Stub;
  const pb::CheckHealthResponse health = wire_->call(&Stub::CheckHealth, pb::CheckHealthRequest());
  if (!health.ishealthy())
    throw Error(ErrorKind::unavailable, wire_->config.address + " is not ready" +
                                            (health.reasons_size() > 0 ? ": " + health.reasons(0) : ""));
  return wire_->call(&Stub::GetVersion, pb::GetVersionRequest()).version();
}

ServedCollection Client::describe(const std::string& collection) {
  using Stub = pb::MilvusService::Stub;
  pb::DescribeCollectionRequest described;
  described.set_collection_name(collection);
  ServedCollection found;
  const pb::DescribeCollectionResponse description = wire_->call(&Stub::DescribeCollection, described);
  for (const auto& field : description.schema().fields())
    for (const auto& [key, value] : milvus::parameters_of(field.type_params()))
      if (key == "dim") found.dim = std::stoll(value);
  pb::DescribeIndexRequest indexed;
  indexed.set_collection_name(collection);
  const pb::DescribeIndexResponse indexes = wire_->call(&Stub::DescribeIndex, indexed);
  for (const pb::IndexDescription& index : indexes.index_descriptions()) {
    found.rows = index.total_rows();
    for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine})
      for (const auto& [key, value] : milvus::parameters_of(index.params()))
        if (key == "metric_type" && value == milvus::metric_type(metric)) found.metric = metric;
  }
  return found;
}

TopK Client::search(const std::string& collection, MatrixView<const float> queries, std::int64_t k,
                    Metric metric) {
  pb::SearchRequest request;
  request.set_collection_name(collection);
  request.set_nq(queries.rows);
  request.set_dsl_type(common::BoolExprV1);
  request.set_placeholder_group(placeholder_group(queries));
  milvus::add_pair(*request.mutable_search_params(), "topk", std::to_string(k));
  milvus::add_pair(*request.mutable_search_params(), "metric_type", milvus::metric_type(metric));
  const pb::SearchResults response = wire_->call(&pb::MilvusService::Stub::Search, request);
  const auto& data = response.results();
  const auto& ids = data.ids().int_id().data();
  TopK top(queries.rows, k, metric);
  std::int64_t at = 0;
  bool fits = data.topks_size() == queries.rows && ids.size() == data.scores_size();
  for (std::int64_t q = 0; fits && q < queries.rows; ++q) {
    const std::int64_t hits = data.topks(static_cast<int>(q));
    fits = hits >= 0 && hits <= k && at + hits <= ids.size();
    if (!fits) break;
    std::copy_n(ids.begin() + at, hits, top.row(q).neighbors.begin());
    std::copy_n(data.scores().begin() + at, hits, top.row(q).distances.begin());
    at += hits;
  }
  if (!fits) throw Error(ErrorKind::data, wire_->config.address + " answered with columns that do not fit");
  return top;
}

}  // namespace mpishards::serve

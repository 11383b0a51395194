#include "serve/milvus/client_wire.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "io/file.hpp"
#include "serve/milvus/translate.hpp"
#include "serve/status.hpp"

namespace mpishards::serve::milvus {

namespace {

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

std::shared_ptr<grpc::Channel> make_channel(const ClientConfig& config) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(config.address, credentials(config), arguments);
}

void prepare(grpc::ClientContext& context, const ClientConfig& config) {
  context.set_deadline(std::chrono::system_clock::now() + config.timeout);
  if (!config.token.empty()) context.AddMetadata("authorization", base64(config.token));
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

pb::SearchRequest search_request(const std::string& collection, const ServedCollection& described,
                                 MatrixView<const float> queries, std::int64_t k, const std::string& params) {
  pb::SearchRequest request;
  request.set_collection_name(collection);
  request.set_nq(queries.rows);
  request.set_dsl_type(common::BoolExprV1);
  request.set_use_default_consistency(true);
  request.set_placeholder_group(placeholder_group(queries));
  auto& pairs = *request.mutable_search_params();
  add_pair(pairs, "anns_field", described.vector_field);
  add_pair(pairs, "topk", std::to_string(k));
  add_pair(pairs, "metric_type", metric_type(described.metric));
  if (!params.empty()) add_pair(pairs, "params", params);
  return request;
}

TopK read_answer(const pb::SearchResults& answer, std::int64_t nq, std::int64_t k, Metric metric,
                 const std::string& address) {
  const auto& data = answer.results();
  const auto& ids = data.ids().int_id().data();
  TopK top(nq, k, metric);
  std::int64_t at = 0;
  bool fits = data.topks_size() == nq && ids.size() == data.scores_size();
  for (std::int64_t q = 0; fits && q < nq; ++q) {
    const std::int64_t hits = data.topks(static_cast<int>(q));
    fits = hits >= 0 && hits <= k && at + hits <= ids.size();
    if (!fits) break;
    std::copy_n(ids.begin() + at, hits, top.row(q).neighbors.begin());
    std::copy_n(data.scores().begin() + at, hits, top.row(q).distances.begin());
    at += hits;
  }
  if (!fits) throw Error(ErrorKind::data, address + " answered with columns that do not fit");
  return top;
}

}  // namespace mpishards::serve::milvus

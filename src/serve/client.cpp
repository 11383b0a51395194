#include "serve/client.hpp"

#include <grpcpp/grpcpp.h>

#include "core/error.hpp"
#include "serve/milvus/client_wire.hpp"
#include "serve/milvus/translate.hpp"

namespace mpishards::serve {

namespace pb = milvus::pb;

struct Client::Wire {
  ClientConfig config;
  std::unique_ptr<pb::MilvusService::Stub> stub;

  /// Calls one RPC. @throws Error
  template <class Request, class Response>
  Response call(grpc::Status (pb::MilvusService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                Response*),
                const Request& request) {
    grpc::ClientContext context;
    milvus::prepare(context, config);
    Response response;
    milvus::check_wire(((*stub).*method)(&context, request, &response), config.address);
    milvus::check_status(response.status(), config.address);
    return response;
  }
};

Client::Client(const ClientConfig& config) : wire_(std::make_unique<Wire>()) {
  wire_->config = config;
  wire_->stub = pb::MilvusService::NewStub(milvus::make_channel(config));
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
      if (key == "dim") {
        found.dim = std::stoll(value);
        found.vector_field = field.name();
      }
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

TopK Client::search(const std::string& collection, const ServedCollection& described,
                    MatrixView<const float> queries, std::int64_t k) {
  const pb::SearchResults answer = wire_->call(&pb::MilvusService::Stub::Search,
                                               milvus::search_request(collection, described, queries, k));
  return milvus::read_answer(answer, queries.rows, k, described.metric, wire_->config.address);
}

}  // namespace mpishards::serve

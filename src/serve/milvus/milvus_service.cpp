#include "serve/milvus/milvus_service.hpp"

#include <utility>

#include "serve/milvus/answers.hpp"

namespace mpishards::serve::milvus {

namespace {

/// Some requests have no database, and two spell it in their own way.
template <class Request>
std::string database_in(const Request& request) {
  if constexpr (requires { request.db_name(); })
    return request.db_name();
  else
    return "";
}

template <class Request>
std::string collection_in(const Request& request) {
  if constexpr (requires { std::string(request.collection_name()); })
    return request.collection_name();
  else
    return "";
}

common::Status& status_of(common::Status& response) {
  return response;
}
template <class Response>
common::Status& status_of(Response& response) {
  return *response.mutable_status();
}

RequestRecord record_of(const std::string& collection, const Status& status) {
  RequestRecord record;
  record.collection = collection;
  record.status = status;
  return record;
}

}  // namespace

template <class Request>
Call* MilvusService::admit(grpc::CallbackServerContext& context, std::string method, const Request& request,
                           grpc::ServerUnaryReactor*& reactor) {
  auto* call = new Call(context, std::move(method), request, front_.observer);  // deletes itself in OnDone
  reactor = call;
  if (call->is_admitted(front_.tokens)) return call;
  call->refuse(grpc::StatusCode::UNAUTHENTICATED,
               record_of(collection_in(request),
                         {Code::unauthenticated, "the token or user:password is wrong or missing"}));
  return nullptr;
}

template <class Request, class Response>
grpc::ServerUnaryReactor* MilvusService::at_once(grpc::CallbackServerContext& context, std::string method,
                                                 const Request& request, Response& response) {
  grpc::ServerUnaryReactor* reactor = nullptr;
  Call* call = admit(context, std::move(method), request, reactor);
  if (call == nullptr) return reactor;
  Status status;
  try {
    milvus::answer(Asked{front_, hints_, call->database(database_in(request))}, request, response);
  } catch (...) {
    status = status_of_current_exception();
  }
  fill(status_of(response), status);
  call->answer(response, record_of(collection_in(request), status));
  return reactor;
}

void MilvusService::answer_search(Call& call, pb::SearchResults& response, SearchResult result,
                                  std::int64_t nq, std::int64_t limit) {
  RequestRecord record =
      record_of(result.collection == nullptr ? "" : result.collection->name, result.status);
  record.queries = nq;
  record.k = result.k;
  record.queue_seconds = result.queue_seconds;
  record.batches = result.batches;
  if (result.status.code == Code::overloaded)
    return call.refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, std::move(record));
  if (result.status.code == Code::cancelled)
    return call.refuse(grpc::StatusCode::CANCELLED, std::move(record));
  if (result.status.code == Code::timeout)
    return call.refuse(grpc::StatusCode::DEADLINE_EXCEEDED, std::move(record));
  try {
    fill(response, result, nq, limit);
  } catch (...) {
    record.status = status_of_current_exception();
    response.Clear();
    fill(*response.mutable_status(), record.status);
  }
  call.answer(response, std::move(record));
}

grpc::ServerUnaryReactor* MilvusService::Search(grpc::CallbackServerContext* context,
                                                const pb::SearchRequest* request,
                                                pb::SearchResults* response) {
  grpc::ServerUnaryReactor* reactor = nullptr;
  Call* call = admit(*context, "Search", *request, reactor);
  if (call == nullptr) return reactor;
  SearchResult refused;
  try {
    const std::string database = call->database(request->db_name());
    SearchQuery query =
        search_query(*request, *front_.service.describe(database, request->collection_name()));
    query.database = database;
    query.context = call->context();
    const std::int64_t nq = query.queries.rows();
    const std::int64_t limit = query.limit;
    front_.service.search(std::move(query), [this, call, response, nq, limit](SearchResult result) {
      answer_search(*call, *response, std::move(result), nq, limit);
    });
    return reactor;
  } catch (...) {
    refused.status = status_of_current_exception();
  }
  answer_search(*call, *response, std::move(refused), request->nq(), 0);
  return reactor;
}

grpc::ServerUnaryReactor* MilvusService::Query(grpc::CallbackServerContext* context,
                                               const pb::QueryRequest* request, pb::QueryResults* response) {
  grpc::ServerUnaryReactor* reactor = nullptr;
  Call* call = admit(*context, "Query", *request, reactor);
  if (call == nullptr) return reactor;
  const auto answer_query = [call, response](const RowResult& result) {
    RequestRecord record =
        record_of(result.collection == nullptr ? "" : result.collection->name, result.status);
    if (result.status.code == Code::overloaded)
      return call->refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, std::move(record));
    if (result.status.code == Code::cancelled)
      return call->refuse(grpc::StatusCode::CANCELLED, std::move(record));
    try {
      fill(*response, result);
    } catch (...) {
      record.status = status_of_current_exception();
      response->Clear();
      fill(*response->mutable_status(), record.status);
    }
    call->answer(*response, std::move(record));
  };
  RowResult refused;
  try {
    RowQuery query = row_query(*request);
    query.database = call->database(request->db_name());
    query.context = call->context();
    front_.service.query(std::move(query), answer_query);
    return reactor;
  } catch (...) {
    refused.status = status_of_current_exception();
  }
  answer_query(refused);
  return reactor;
}

template <class Request>
grpc::ServerUnaryReactor* MilvusService::release(grpc::CallbackServerContext& context, std::string method,
                                                 const Request& request, common::Status& response) {
  grpc::ServerUnaryReactor* reactor = nullptr;
  Call* call = admit(context, std::move(method), request, reactor);
  if (call == nullptr) return reactor;
  const auto answer_release = [call, &response, name = request.collection_name()](const Status& status) {
    fill(response, status);
    call->answer(response, record_of(name, status));
  };
  Status refused;
  try {
    front_.service.release(
        front_.service.describe(call->database(request.db_name()), request.collection_name()),
        answer_release);
    return reactor;
  } catch (...) {
    refused = status_of_current_exception();
  }
  answer_release(refused);
  return reactor;
}

grpc::ServerUnaryReactor* MilvusService::ReleaseCollection(grpc::CallbackServerContext* context,
                                                           const pb::ReleaseCollectionRequest* request,
                                                           common::Status* response) {
  return release(*context, "ReleaseCollection", *request, *response);
}

grpc::ServerUnaryReactor* MilvusService::ReleasePartitions(grpc::CallbackServerContext* context,
                                                           const pb::ReleasePartitionsRequest* request,
                                                           common::Status* response) {
  return release(*context, "ReleasePartitions", *request, *response);
}

// NOLINTBEGIN(bugprone-macro-parentheses): types can not stand in parentheses
#define MPISHARDS_ANSWERED_AT_ONCE(Method, Request, Response)                                   \
  grpc::ServerUnaryReactor* MilvusService::Method(grpc::CallbackServerContext* context,         \
                                                  const Request* request, Response* response) { \
    return at_once(*context, #Method, *request, *response);                                     \
  }
#include "serve/milvus/rpcs.inc"
#undef MPISHARDS_ANSWERED_AT_ONCE
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace mpishards::serve::milvus

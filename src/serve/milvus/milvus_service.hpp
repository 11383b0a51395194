#pragma once

#include <string>
#include <string_view>

#include "milvus.grpc.pb.h"
#include "serve/front.hpp"
#include "serve/milvus/call.hpp"
#include "serve/milvus/index_hints.hpp"
#include "serve/milvus/translate.hpp"

namespace mpishards::serve::milvus {

/// The RPCs of the Milvus protocol that this server answers: everything that connects, looks around and
/// reads. Calls that would write are answered with a status that says why not.
///
/// Application errors are answered inside Status with the wire's own status OK: clients retry UNAVAILABLE and
/// its kin for minutes.
class MilvusService final : public pb::MilvusService::CallbackService {
 public:
  explicit MilvusService(const FrontContext& front) : front_(front) {}

  grpc::ServerUnaryReactor* Search(grpc::CallbackServerContext* context, const pb::SearchRequest* request,
                                   pb::SearchResults* response) override;
  grpc::ServerUnaryReactor* Query(grpc::CallbackServerContext* context, const pb::QueryRequest* request,
                                  pb::QueryResults* response) override;
  grpc::ServerUnaryReactor* ReleaseCollection(grpc::CallbackServerContext* context,
                                              const pb::ReleaseCollectionRequest* request,
                                              common::Status* response) override;
  grpc::ServerUnaryReactor* ReleasePartitions(grpc::CallbackServerContext* context,
                                              const pb::ReleasePartitionsRequest* request,
                                              common::Status* response) override;

// NOLINTBEGIN(bugprone-macro-parentheses): types can not stand in parentheses
#define MPISHARDS_ANSWERED_AT_ONCE(Method, Request, Response)                                    \
  grpc::ServerUnaryReactor* Method(grpc::CallbackServerContext* context, const Request* request, \
                                   Response* response) override;
#include "serve/milvus/rpcs.inc"
#undef MPISHARDS_ANSWERED_AT_ONCE
  // NOLINTEND(bugprone-macro-parentheses)

 private:
  template <class Request, class Response>
  grpc::ServerUnaryReactor* at_once(grpc::CallbackServerContext& context, std::string method,
                                    const Request& request, Response& response);
  /// Makes the call; null where it is refused at the door and answered already.
  template <class Request>
  Call* admit(grpc::CallbackServerContext& context, std::string method, const Request& request,
              grpc::ServerUnaryReactor*& reactor);
  template <class Request>
  grpc::ServerUnaryReactor* release(grpc::CallbackServerContext& context, std::string method,
                                    const Request& request, common::Status& response);
  void answer_search(Call& call, pb::SearchResults& response, SearchResult result, std::int64_t nq,
                     std::int64_t limit);

  FrontContext front_;
  IndexHints hints_;
};

}  // namespace mpishards::serve::milvus

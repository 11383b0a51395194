#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "milvus.pb.h"
#include "serve/observer.hpp"
#include "serve/request_context.hpp"
#include "serve/token_set.hpp"

namespace mpishards::serve::milvus {

/// One unary call at work: knows who asks, notices when the client goes away, and answers once. Deletes
/// itself when gRPC is done with it.
class Call final : public grpc::ServerUnaryReactor {
 public:
  Call(grpc::CallbackServerContext& context, std::string method, const google::protobuf::Message& request,
       Observer& observer);

  const ContextPtr& context() const { return context_; }
  /// What the request says, else the header "dbname", else empty.
  std::string database(const std::string& in_request) const;
  bool is_admitted(const TokenSet& tokens) const;

  /// Answers with what was written into `response`, whose status says the same as record.status.
  /// @param record  its context and total seconds are filled in here
  void answer(const google::protobuf::Message& response, RequestRecord record);
  /// Answers with an error of the wire itself.
  void refuse(grpc::StatusCode code, RequestRecord record);

  void OnCancel() override { context_->is_cancelled = true; }
  void OnDone() override { delete this; }

 private:
  std::string header(const std::string& name) const;
  void report(RequestRecord record);

  grpc::CallbackServerContext& wire_;
  Observer& observer_;
  ContextPtr context_;
};

}  // namespace mpishards::serve::milvus

#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "core/matrix_view.hpp"
#include "core/topk.hpp"
#include "milvus.grpc.pb.h"
#include "serve/client.hpp"

/// What a client of the Milvus protocol puts on the wire, and makes of what comes back.
namespace mpishards::serve::milvus {

using Stub = ::milvus::proto::milvus::MilvusService::Stub;

/// A connection of its own, also where the process has others to the same address. Does not connect yet.
/// @throws Error{input_missing|permission} for the certificates
std::shared_ptr<grpc::Channel> make_channel(const ClientConfig& config);

/// Gives a call its deadline, from now, and its token.
void prepare(grpc::ClientContext& context, const ClientConfig& config);

/// @throws Error{permission} for a wrong token, Error{unavailable} for all else that is not OK
void check_wire(const grpc::Status& status, const std::string& address);
/// @throws Error{usage} for an unknown collection or a bad parameter, Error{unavailable} for other refusals
void check_status(const ::milvus::proto::common::Status& status, const std::string& address);

/// @param queries  nq x dim
/// @param params   of the search, a JSON object; empty: none
::milvus::proto::milvus::SearchRequest search_request(const std::string& collection,
                                                      const ServedCollection& described,
                                                      MatrixView<const float> queries, std::int64_t k,
                                                      const std::string& params = "");

/// @return nq x k, padded
/// @throws Error{data} for columns that do not fit to each other or to nq and k
TopK read_answer(const ::milvus::proto::milvus::SearchResults& answer, std::int64_t nq, std::int64_t k,
                 Metric metric, const std::string& address);

}  // namespace mpishards::serve::milvus

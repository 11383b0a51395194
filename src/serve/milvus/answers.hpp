#pragma once

#include <concepts>
#include <string>

#include "serve/front.hpp"
#include "serve/milvus/index_hints.hpp"
#include "serve/milvus/translate.hpp"

namespace mpishards::serve::milvus {

/// What an answer that needs no engine is made from.
struct Asked {
  const FrontContext& front;
  IndexHints& hints;
  std::string database;  // of the request or its header; empty: default

  /// @throws RequestError{database_not_found|collection_not_found}
  CollectionPtr collection(const std::string& name) const { return front.service.describe(database, name); }
};

/// Names in one BatchDescribeCollection: an answer is a hundred times longer than a name.
inline constexpr int kMostDescribed = 1000;

/// Each fills in everything but the status, or throws RequestError.
void answer(const Asked& asked, const pb::ConnectRequest& request, pb::ConnectResponse& response);
void answer(const Asked& asked, const pb::GetVersionRequest& request, pb::GetVersionResponse& response);
void answer(const Asked& asked, const pb::CheckHealthRequest& request, pb::CheckHealthResponse& response);
void answer(const Asked& asked, const pb::AllocTimestampRequest& request,
            pb::AllocTimestampResponse& response);
void answer(const Asked& asked, const pb::GetMetricsRequest& request, pb::GetMetricsResponse& response);
void answer(const Asked& asked, const pb::GetComponentStatesRequest& request, pb::ComponentStates& response);

void answer(const Asked& asked, const pb::ListDatabasesRequest& request, pb::ListDatabasesResponse& response);
void answer(const Asked& asked, const pb::DescribeDatabaseRequest& request,
            pb::DescribeDatabaseResponse& response);
void answer(const Asked& asked, const pb::HasCollectionRequest& request, pb::BoolResponse& response);
void answer(const Asked& asked, const pb::DescribeCollectionRequest& request,
            pb::DescribeCollectionResponse& response);
void answer(const Asked& asked, const pb::BatchDescribeCollectionRequest& request,
            pb::BatchDescribeCollectionResponse& response);
void answer(const Asked& asked, const pb::ShowCollectionsRequest& request,
            pb::ShowCollectionsResponse& response);
void answer(const Asked& asked, const pb::GetCollectionStatisticsRequest& request,
            pb::GetCollectionStatisticsResponse& response);
void answer(const Asked& asked, const pb::HasPartitionRequest& request, pb::BoolResponse& response);
void answer(const Asked& asked, const pb::ShowPartitionsRequest& request,
            pb::ShowPartitionsResponse& response);
void answer(const Asked& asked, const pb::GetPartitionStatisticsRequest& request,
            pb::GetPartitionStatisticsResponse& response);
void answer(const Asked& asked, const pb::DescribeAliasRequest& request, pb::DescribeAliasResponse& response);
void answer(const Asked& asked, const pb::ListAliasesRequest& request, pb::ListAliasesResponse& response);

void answer(const Asked& asked, const pb::LoadCollectionRequest& request, common::Status& response);
void answer(const Asked& asked, const pb::LoadPartitionsRequest& request, common::Status& response);
void answer(const Asked& asked, const pb::GetLoadingProgressRequest& request,
            pb::GetLoadingProgressResponse& response);
void answer(const Asked& asked, const pb::GetLoadStateRequest& request, pb::GetLoadStateResponse& response);
void answer(const Asked& asked, const pb::GetReplicasRequest& request, pb::GetReplicasResponse& response);
void answer(const Asked& asked, const pb::GetPersistentSegmentInfoRequest& request,
            pb::GetPersistentSegmentInfoResponse& response);
void answer(const Asked& asked, const pb::GetQuerySegmentInfoRequest& request,
            pb::GetQuerySegmentInfoResponse& response);

void answer(const Asked& asked, const pb::CreateIndexRequest& request, common::Status& response);
void answer(const Asked& asked, const pb::DropIndexRequest& request, common::Status& response);
void answer(const Asked& asked, const pb::DescribeIndexRequest& request, pb::DescribeIndexResponse& response);
void answer(const Asked& asked, const pb::GetIndexStatisticsRequest& request,
            pb::GetIndexStatisticsResponse& response);
void answer(const Asked& asked, const pb::GetIndexStateRequest& request, pb::GetIndexStateResponse& response);
void answer(const Asked& asked, const pb::GetIndexBuildProgressRequest& request,
            pb::GetIndexBuildProgressResponse& response);

/// There is nothing to flush: everything that is served is in files.
void answer(const Asked& asked, const pb::FlushRequest& request, pb::FlushResponse& response);
void answer(const Asked& asked, const pb::GetFlushStateRequest& request, pb::GetFlushStateResponse& response);

void answer(const Asked& asked, const pb::HybridSearchRequest& request, pb::SearchResults& response);

/// Requests that would change collections or databases.
template <class Request>
concept Write =
    std::same_as<Request, pb::CreateCollectionRequest> || std::same_as<Request, pb::DropCollectionRequest> ||
    std::same_as<Request, pb::RenameCollectionRequest> || std::same_as<Request, pb::AlterCollectionRequest> ||
    std::same_as<Request, pb::AlterCollectionFieldRequest> ||
    std::same_as<Request, pb::AddCollectionFieldRequest> ||
    std::same_as<Request, pb::TruncateCollectionRequest> ||
    std::same_as<Request, pb::CreatePartitionRequest> || std::same_as<Request, pb::DropPartitionRequest> ||
    std::same_as<Request, pb::CreateAliasRequest> || std::same_as<Request, pb::AlterAliasRequest> ||
    std::same_as<Request, pb::DropAliasRequest> || std::same_as<Request, pb::AlterIndexRequest> ||
    std::same_as<Request, pb::InsertRequest> || std::same_as<Request, pb::UpsertRequest> ||
    std::same_as<Request, pb::DeleteRequest> || std::same_as<Request, pb::CreateDatabaseRequest> ||
    std::same_as<Request, pb::DropDatabaseRequest> || std::same_as<Request, pb::AlterDatabaseRequest>;

/// @throws RequestError{read_only}, always
template <Write Request, class Response>
void answer(const Asked& /*asked*/, const Request& /*request*/, Response& /*response*/) {
  throw RequestError(
      Code::read_only,
      "collections of this server are read-only: mpishards serves them from files, and its operator "
      "decides which");
}

}  // namespace mpishards::serve::milvus

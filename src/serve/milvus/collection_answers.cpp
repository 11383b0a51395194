// Answers about what is served.
#include "serve/milvus/answers.hpp"

namespace mpishards::serve::milvus {

namespace {

constexpr std::int64_t kLoadedPercent = 100;
constexpr std::string_view kDefaultResourceGroup = "__default_resource_group";

std::int64_t loaded_percent(const CollectionInfo& info) {
  return info.state == LoadState::loaded ? kLoadedPercent : 0;
}

/// Partitions and segments have ids too: the collection's with an offset.
std::int64_t partition_id(const CollectionInfo& info) {
  return info.id + kLoadedPercent;
}

std::int64_t segment_id(const CollectionInfo& info, const ShardInfo& shard) {
  return info.id * 1000 + shard.rank;
}

void check_partition(const std::string& name) {
  SearchService::check_partitions({name});
}

template <class Names>
void check_partitions(const Names& names) {
  SearchService::check_partitions({names.begin(), names.end()});
}

void check_status(const Status& status) {
  if (!status.is_ok()) throw RequestError(status.code, status.reason);
}

}  // namespace

void answer(const Asked& /*asked*/, const pb::ListDatabasesRequest& /*request*/,
            pb::ListDatabasesResponse& response) {
  response.add_db_names(std::string(kDefaultDatabase));
  response.add_created_timestamp(0);
  response.add_db_ids(1);
}

void answer(const Asked& asked, const pb::DescribeDatabaseRequest& /*request*/,
            pb::DescribeDatabaseResponse& response) {
  SearchService::check_database(asked.database);
  response.set_db_name(std::string(kDefaultDatabase));
  response.set_dbid(1);
}

void answer(const Asked& asked, const pb::HasCollectionRequest& request, pb::BoolResponse& response) {
  SearchService::check_database(asked.database);
  response.set_value(asked.front.catalogue.find(request.collection_name()) != nullptr);
}

void answer(const Asked& asked, const pb::DescribeCollectionRequest& request,
            pb::DescribeCollectionResponse& response) {
  if (request.collection_name().empty() && request.collectionid() != 0) {
    for (const CollectionPtr& info : asked.front.service.list(asked.database))
      if (info->id == request.collectionid()) return fill(response, *info);
  }
  fill(response, *asked.collection(request.collection_name()));
}

void answer(const Asked& asked, const pb::BatchDescribeCollectionRequest& request,
            pb::BatchDescribeCollectionResponse& response) {
  if (request.collection_name_size() > kMostDescribed)
    throw RequestError(Code::invalid_parameter, std::to_string(request.collection_name_size()) +
                                                    " collections are more than can be described at once: " +
                                                    std::to_string(kMostDescribed));
  for (const std::string& name : request.collection_name()) {
    pb::DescribeCollectionResponse& one = *response.add_responses();
    Status status;
    try {
      fill(one, *asked.collection(name));
    } catch (const RequestError& error) {
      status = error.status();
    }
    fill(*one.mutable_status(), status);
  }
}

void answer(const Asked& asked, const pb::ShowCollectionsRequest& request,
            pb::ShowCollectionsResponse& response) {
  const auto& wanted = request.collection_names();
  const std::vector<CollectionPtr> all = asked.front.service.list(asked.database);
  for (const std::string& name : wanted) asked.collection(name);
  for (const CollectionPtr& info : all) {
    if (!wanted.empty() && std::ranges::find(wanted, info->name) == wanted.end()) continue;
    if (request.type() == pb::InMemory && info->state == LoadState::released) continue;
    response.add_collection_names(info->name);
    response.add_collection_ids(info->id);
    response.add_created_timestamps(hybrid_timestamp(info->created_ms));
    response.add_created_utc_timestamps(static_cast<std::uint64_t>(info->created_ms));
    response.add_inmemory_percentages(loaded_percent(*info));
    response.add_query_service_available(info->state == LoadState::loaded);
    response.add_shards_num(static_cast<std::int32_t>(info->shards.size()));
  }
}

void answer(const Asked& asked, const pb::GetCollectionStatisticsRequest& request,
            pb::GetCollectionStatisticsResponse& response) {
  add_pair(*response.mutable_stats(), "row_count",
           std::to_string(asked.collection(request.collection_name())->rows));
}

void answer(const Asked& asked, const pb::HasPartitionRequest& request, pb::BoolResponse& response) {
  asked.collection(request.collection_name());
  response.set_value(request.partition_name() == kDefaultPartition);
}

void answer(const Asked& asked, const pb::ShowPartitionsRequest& request,
            pb::ShowPartitionsResponse& response) {
  const CollectionPtr info = asked.collection(request.collection_name());
  check_partitions(request.partition_names());
  response.add_partition_names(std::string(kDefaultPartition));
  response.add_partitionids(partition_id(*info));
  response.add_created_timestamps(hybrid_timestamp(info->created_ms));
  response.add_created_utc_timestamps(static_cast<std::uint64_t>(info->created_ms));
  response.add_inmemory_percentages(loaded_percent(*info));
}

void answer(const Asked& asked, const pb::GetPartitionStatisticsRequest& request,
            pb::GetPartitionStatisticsResponse& response) {
  const CollectionPtr info = asked.collection(request.collection_name());
  check_partition(request.partition_name());
  add_pair(*response.mutable_stats(), "row_count", std::to_string(info->rows));
}

void answer(const Asked& asked, const pb::DescribeAliasRequest& request,
            pb::DescribeAliasResponse& /*response*/) {
  SearchService::check_database(asked.database);
  throw RequestError(Code::alias_not_found,
                     "alias not found[database=default][alias=" + request.alias() + "]");
}

void answer(const Asked& asked, const pb::ListAliasesRequest& request, pb::ListAliasesResponse& response) {
  SearchService::check_database(asked.database);
  if (!request.collection_name().empty()) asked.collection(request.collection_name());
  response.set_db_name(std::string(kDefaultDatabase));
  response.set_collection_name(request.collection_name());
}

void answer(const Asked& asked, const pb::LoadCollectionRequest& request, common::Status& /*response*/) {
  check_status(asked.front.service.load(asked.collection(request.collection_name())));
}

void answer(const Asked& asked, const pb::LoadPartitionsRequest& request, common::Status& /*response*/) {
  const CollectionPtr info = asked.collection(request.collection_name());
  check_partitions(request.partition_names());
  check_status(asked.front.service.load(info));
}

void answer(const Asked& asked, const pb::GetLoadingProgressRequest& request,
            pb::GetLoadingProgressResponse& response) {
  const CollectionPtr info = asked.collection(request.collection_name());
  check_partitions(request.partition_names());
  response.set_progress(loaded_percent(*info));
  response.set_refresh_progress(loaded_percent(*info));
}

void answer(const Asked& asked, const pb::GetLoadStateRequest& request, pb::GetLoadStateResponse& response) {
  SearchService::check_database(asked.database);
  const CollectionPtr info = asked.front.catalogue.find(request.collection_name());
  if (info == nullptr) return response.set_state(common::LoadStateNotExist);
  switch (info->state) {
    case LoadState::loading:
      return response.set_state(common::LoadStateLoading);
    case LoadState::loaded:
      return response.set_state(common::LoadStateLoaded);
    case LoadState::released:
      return response.set_state(common::LoadStateNotLoad);
  }
}

void answer(const Asked& asked, const pb::GetReplicasRequest& request, pb::GetReplicasResponse& response) {
  CollectionPtr found;
  for (const CollectionPtr& info : asked.front.service.list(asked.database))
    if (info->name == request.collection_name() ||
        (request.collectionid() != 0 && info->id == request.collectionid()))
      found = info;
  if (found == nullptr)
    throw RequestError(Code::collection_not_found, "can't find collection[database=default][collection=" +
                                                       request.collection_name() + "]");
  if (found->state != LoadState::loaded)
    throw RequestError(Code::collection_not_loaded, "collection not loaded[collection=" + found->name + "]");
  pb::ReplicaInfo& replica = *response.add_replicas();
  replica.set_replicaid(found->id);
  replica.set_collectionid(found->id);
  replica.add_partition_ids(partition_id(*found));
  replica.set_resource_group_name(std::string(kDefaultResourceGroup));
  for (const ShardInfo& shard : found->shards) {
    replica.add_node_ids(shard.rank);
    pb::ShardReplica& part = *replica.add_shard_replicas();
    part.set_leaderid(shard.rank);
    part.set_leader_addr(shard.host);
    part.set_dm_channel_name("rank " + std::to_string(shard.rank));
    part.add_node_ids(shard.rank);
  }
}

void answer(const Asked& asked, const pb::GetPersistentSegmentInfoRequest& request,
            pb::GetPersistentSegmentInfoResponse& response) {
  SearchService::check_database(request.dbname());
  const CollectionPtr info = asked.collection(request.collectionname());
  for (const ShardInfo& shard : info->shards) {
    pb::PersistentSegmentInfo& segment = *response.add_infos();
    segment.set_segmentid(segment_id(*info, shard));
    segment.set_collectionid(info->id);
    segment.set_partitionid(partition_id(*info));
    segment.set_num_rows(shard.rows);
    segment.set_state(common::Sealed);
  }
}

void answer(const Asked& asked, const pb::GetQuerySegmentInfoRequest& request,
            pb::GetQuerySegmentInfoResponse& response) {
  SearchService::check_database(request.dbname());
  const CollectionPtr info = asked.collection(request.collectionname());
  for (const ShardInfo& shard : info->shards) {
    pb::QuerySegmentInfo& segment = *response.add_infos();
    segment.set_segmentid(segment_id(*info, shard));
    segment.set_collectionid(info->id);
    segment.set_partitionid(partition_id(*info));
    segment.set_num_rows(shard.rows);
    segment.set_mem_size(shard.bytes);
    segment.set_index_name(std::string(kVectorField));
    segment.set_state(common::Sealed);
    segment.add_nodeids(shard.rank);
  }
}

void answer(const Asked& asked, const pb::FlushRequest& request, pb::FlushResponse& response) {
  response.set_db_name(std::string(kDefaultDatabase));
  for (const std::string& name : request.collection_names()) {
    asked.collection(name);
    (*response.mutable_coll_segids())[name];
    (*response.mutable_flush_coll_segids())[name];
    (*response.mutable_coll_flush_ts())[name] = hybrid_timestamp();
  }
}

void answer(const Asked& /*asked*/, const pb::GetFlushStateRequest& /*request*/,
            pb::GetFlushStateResponse& response) {
  response.set_flushed(true);
}

void answer(const Asked& /*asked*/, const pb::HybridSearchRequest& /*request*/,
            pb::SearchResults& /*response*/) {
  throw RequestError(Code::unimplemented,
                     "mpishards serves one vector field a collection: there is nothing to fuse");
}

}  // namespace mpishards::serve::milvus

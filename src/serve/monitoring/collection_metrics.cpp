#include "serve/monitoring/collection_metrics.hpp"

#include <mutex>
#include <utility>
#include <vector>

namespace mpishards::serve {
namespace {

using prometheus::Family;
using prometheus::Gauge;
using prometheus::Labels;

Labels shard_labels(const std::string& collection, const ShardInfo& shard) {
  return {{"collection", collection}, {"rank", std::to_string(shard.rank)}, {"host", shard.host}};
}

}  // namespace

CollectionMetrics::CollectionMetrics(MetricRegistry& registry)
    : registry_(registry),
      shard_rows_(registry.gauges("mpishards_shard_rows", "Rows in the memory of one rank.")),
      shard_bytes_(
          registry.gauges("mpishards_shard_bytes", "Bytes of vectors and ids in the memory of one rank.")),
      shard_load_seconds_(
          registry.gauges("mpishards_shard_load_seconds", "What the last load took on one rank.")) {}

void CollectionMetrics::change(const CollectionInfo& info) {
  std::map<std::string, CollectionInfo> collections;
  std::vector<ShardInfo> gone;
  std::map<int, Node> nodes;
  {
    const std::unique_lock lock(mutex_);
    if (const auto old = collections_.find(info.name); old != collections_.end() && info.shards.empty()) {
      gone = old->second.shards;
    }
    collections_[info.name] = info;
    collections = collections_;
    for (const ShardInfo& shard : info.shards) nodes_[shard.rank] = {};
    nodes = nodes_;
  }
  const Labels name = {{"collection", info.name}};
  registry_.gauge("mpishards_collection_loaded", "1 while a collection can be searched.", name)
      .Set(info.state == LoadState::loaded ? 1 : 0);
  registry_.gauge("mpishards_collection_rows", "Rows that can be found.", name)
      .Set(static_cast<double>(info.rows));
  registry_.gauge("mpishards_collection_generation", "How often a collection was loaded.", name)
      .Set(static_cast<double>(info.generation));
  for (const ShardInfo& shard : info.shards) change(info, shard);
  for (const ShardInfo& shard : gone) forget(info.name, shard);
  change_totals(collections, std::move(nodes));
}

std::string CollectionMetrics::known(const std::string& collection) const {
  const std::shared_lock lock(mutex_);
  return collections_.contains(collection) ? collection : "";
}

std::int64_t CollectionMetrics::rows_of(const std::string& collection) const {
  const std::shared_lock lock(mutex_);
  const auto found = collections_.find(collection);
  return found == collections_.end() ? 0 : found->second.rows;
}

Gauge& CollectionMetrics::milvus_rows(const std::string& collection, int rank) {
  return registry_.gauge("milvus_querynode_entity_num", "Rows on one rank.",
                         {{"node_id", std::to_string(rank)},
                          {"db_name", kMilvusDatabase},
                          {"collection_name", collection},
                          {"segment_state", "Sealed"}});
}

void CollectionMetrics::forget(const std::string& collection, const ShardInfo& shard) {
  const Labels labels = shard_labels(collection, shard);
  for (Family<Gauge>* family : {&shard_rows_, &shard_bytes_, &shard_load_seconds_}) {
    family->Remove(&family->Add(labels));
  }
  milvus_rows(collection, shard.rank).Set(0);
}

void CollectionMetrics::change(const CollectionInfo& info, const ShardInfo& shard) {
  const Labels labels = shard_labels(info.name, shard);
  shard_rows_.Add(labels).Set(static_cast<double>(shard.rows));
  shard_bytes_.Add(labels).Set(static_cast<double>(shard.bytes));
  shard_load_seconds_.Add(labels).Set(shard.load_seconds);
  milvus_rows(info.name, shard.rank).Set(static_cast<double>(shard.rows));
  if (info.state != LoadState::loaded) return;
  registry_
      .milliseconds("milvus_querynode_load_segment_latency", "Milliseconds of loading one shard.",
                    {{"node_id", std::to_string(shard.rank)}})
      .Observe(shard.load_seconds * kMillisecondsPerSecond);
}

/// Milvus has a query node for each rank, which holds one segment of every loaded collection.
void CollectionMetrics::change_totals(const std::map<std::string, CollectionInfo>& collections,
                                      std::map<int, Node> nodes) {
  double loaded = 0;
  for (const auto& [name, info] : collections) {
    if (info.state == LoadState::loaded) ++loaded;
    for (const ShardInfo& shard : info.shards) {
      ++nodes[shard.rank].segments;
      nodes[shard.rank].bytes += static_cast<double>(shard.bytes);
    }
  }
  const auto total = static_cast<double>(collections.size());
  registry_.gauge("milvus_rootcoord_collection_num", "Collections.", {{"db_name", kMilvusDatabase}})
      .Set(total);
  registry_.gauge("milvus_rootcoord_partition_num", "Partitions.").Set(total);
  registry_.gauge("milvus_rootcoord_proxy_num", "Front ends.").Set(1);
  for (const auto& [rank, node] : nodes) {
    const Labels id = {{"node_id", std::to_string(rank)}};
    Labels segment = id;
    segment.insert({"segment_state", "Sealed"});
    registry_.gauge("milvus_querynode_collection_num", "Loaded collections.", id).Set(loaded);
    registry_.gauge("milvus_querynode_partition_num", "Loaded partitions.", id).Set(loaded);
    registry_.gauge("milvus_querynode_segment_num", "Shards on one rank.", segment).Set(node.segments);
    registry_.gauge("milvus_querynode_entity_size", "Bytes of vectors and ids on one rank.", segment)
        .Set(node.bytes);
  }
}

}  // namespace mpishards::serve

#pragma once

#include <map>
#include <shared_mutex>
#include <string>

#include "serve/monitoring/metric_registry.hpp"
#include "serve/observer.hpp"

namespace mpishards::serve {

/// Follows which collections are served and where their shards lie. Thread safe.
class CollectionMetrics {
 public:
  /// @param registry  must outlive this
  explicit CollectionMetrics(MetricRegistry& registry);

  void change(const CollectionInfo& info);

  /// The name itself where it is served, else "": names that clients made up would make series without end.
  std::string known(const std::string& collection) const;
  /// 0 for a collection that is not served.
  std::int64_t rows_of(const std::string& collection) const;

 private:
  struct Node {
    double segments = 0;
    double bytes = 0;
  };

  void change(const CollectionInfo& info, const ShardInfo& shard);
  void forget(const std::string& collection, const ShardInfo& shard);
  void change_totals(const std::map<std::string, CollectionInfo>& collections, std::map<int, Node> nodes);
  prometheus::Gauge& milvus_rows(const std::string& collection, int rank);

  MetricRegistry& registry_;
  prometheus::Family<prometheus::Gauge>& shard_rows_;
  prometheus::Family<prometheus::Gauge>& shard_bytes_;
  prometheus::Family<prometheus::Gauge>& shard_load_seconds_;
  mutable std::shared_mutex mutex_;  // of what follows
  std::map<std::string, CollectionInfo> collections_;
  std::map<int, Node> nodes_;  // by rank: all that ever had a shard, empty
};

}  // namespace mpishards::serve

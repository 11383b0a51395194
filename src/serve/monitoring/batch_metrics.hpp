#pragma once

#include <map>
#include <shared_mutex>
#include <string>
#include <vector>

#include "serve/monitoring/metric_registry.hpp"
#include "serve/observer.hpp"

namespace mpishards::serve {

/// Counts batches, by collection and rank. Thread safe; a batch costs one look-up.
class BatchMetrics {
 public:
  /// @param registry  must outlive this
  explicit BatchMetrics(MetricRegistry& registry) : registry_(registry) {}

  /// @param collection  the record's, or "" for a name that is not served
  /// @param rows        of that collection
  void finish(const BatchRecord& record, const std::string& collection, std::int64_t rows);

 private:
  struct RankSeries {
    prometheus::Histogram* search_seconds;
    prometheus::Histogram* milvus_segment;
    prometheus::Counter* milvus_requests;
  };
  struct Series {
    prometheus::Histogram* requests = nullptr;
    prometheus::Histogram* queries = nullptr;
    prometheus::Histogram* route_seconds = nullptr;
    prometheus::Histogram* merge_seconds = nullptr;
    prometheus::Histogram* batch_seconds = nullptr;
    prometheus::Gauge* straggler = nullptr;
    prometheus::Counter* scanned = nullptr;
    prometheus::Histogram* milvus_nq = nullptr;
    prometheus::Histogram* milvus_k = nullptr;
    prometheus::Histogram* milvus_core = nullptr;
    prometheus::Histogram* milvus_reduce = nullptr;
    std::vector<RankSeries> ranks;
  };

  /// @param hosts  by rank
  const Series& series_of(const std::string& collection, const std::vector<std::string>& hosts);
  Series make_series(const std::string& collection, const std::vector<std::string>& hosts);
  RankSeries make_rank_series(const std::string& rank, const std::string& host);

  MetricRegistry& registry_;
  std::shared_mutex mutex_;
  std::map<std::string, Series> series_;  // by collection
};

}  // namespace mpishards::serve

#pragma once

#include <map>
#include <shared_mutex>
#include <string>

#include "serve/monitoring/metric_registry.hpp"
#include "serve/observer.hpp"

namespace mpishards::serve {

/// Counts requests, by front, method, collection and status. Thread safe; a request costs one look-up.
class RequestMetrics {
 public:
  /// @param registry  must outlive this
  explicit RequestMetrics(MetricRegistry& registry) : registry_(registry) {}

  void begin(const RequestContext& context);
  /// @param collection  the record's, or "" for a name that is not served
  void finish(const RequestRecord& record, const std::string& collection);

 private:
  struct Key {
    std::string front;
    std::string method;
    std::string collection;
    Code code;
    auto operator<=>(const Key&) const = default;
  };
  struct SearchSeries {
    prometheus::Counter* queries = nullptr;  // null, like the others, for methods that read no rows
    prometheus::Histogram* queue_seconds = nullptr;
    prometheus::Histogram* milvus_latency = nullptr;
    prometheus::Histogram* milvus_collection_latency = nullptr;
    prometheus::Counter* milvus_vectors = nullptr;
    prometheus::Counter* milvus_nq = nullptr;
    prometheus::Histogram* milvus_wait = nullptr;
    prometheus::Histogram* milvus_reduce = nullptr;
    prometheus::Histogram* milvus_queue = nullptr;
    prometheus::Histogram* milvus_node_queue = nullptr;
    prometheus::Histogram* milvus_node_latency = nullptr;
  };
  struct Series {
    prometheus::Gauge* inflight = nullptr;
    prometheus::Counter* requests = nullptr;
    prometheus::Histogram* seconds = nullptr;
    prometheus::Counter* request_bytes = nullptr;
    prometheus::Counter* answer_bytes = nullptr;
    prometheus::Counter* rejected = nullptr;  // null for what was not refused for want of room
    prometheus::Counter* milvus_total = nullptr;
    prometheus::Counter* milvus_outcome = nullptr;
    prometheus::Histogram* milvus_latency = nullptr;
    prometheus::Counter* milvus_received_bytes = nullptr;
    prometheus::Counter* milvus_sent_bytes = nullptr;
    SearchSeries search;
  };

  const Series& series_of(const Key& key);
  Series make_series(const Key& key);
  SearchSeries make_search_series(const Key& key);
  prometheus::Gauge& inflight(const std::string& front);
  static void finish_search(const RequestRecord& record, const SearchSeries& series);

  MetricRegistry& registry_;
  std::shared_mutex mutex_;
  std::map<Key, Series> series_;
};

}  // namespace mpishards::serve

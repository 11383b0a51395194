#include "serve/monitoring/batch_metrics.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace mpishards::serve {

using prometheus::Labels;

void BatchMetrics::finish(const BatchRecord& record, const std::string& collection, std::int64_t rows) {
  const Series& series = series_of(collection, record.search_hosts);
  double slowest = 0;
  for (const double seconds : record.search_seconds) slowest = std::max(slowest, seconds);
  series.requests->Observe(static_cast<double>(record.requests));
  series.queries->Observe(static_cast<double>(record.queries));
  series.route_seconds->Observe(record.scatter_seconds);
  series.merge_seconds->Observe(record.merge_seconds);
  series.batch_seconds->Observe(record.total_seconds);
  series.milvus_nq->Observe(static_cast<double>(record.queries));
  series.milvus_k->Observe(static_cast<double>(record.k));
  series.milvus_core->Observe(slowest * kMillisecondsPerSecond);
  series.milvus_reduce->Observe(record.merge_seconds * kMillisecondsPerSecond);
  double sum = 0;
  for (std::size_t rank = 0; rank < series.ranks.size() && rank < record.search_seconds.size(); ++rank) {
    const double seconds = record.search_seconds[rank];
    series.ranks[rank].search_seconds->Observe(seconds);
    series.ranks[rank].milvus_segment->Observe(seconds * kMillisecondsPerSecond);
    series.ranks[rank].milvus_requests->Increment();
    sum += seconds;
  }
  series.straggler->Set(sum > 0 ? slowest * static_cast<double>(record.search_seconds.size()) / sum : 1);
  series.scanned->Increment(static_cast<double>(record.queries) * static_cast<double>(rows));
}

const BatchMetrics::Series& BatchMetrics::series_of(const std::string& collection,
                                                    const std::vector<std::string>& hosts) {
  {
    const std::shared_lock lock(mutex_);
    if (const auto found = series_.find(collection); found != series_.end()) return found->second;
  }
  Series made = make_series(collection, hosts);
  const std::unique_lock lock(mutex_);
  return series_.try_emplace(collection, std::move(made)).first->second;
}

BatchMetrics::Series BatchMetrics::make_series(const std::string& collection,
                                               const std::vector<std::string>& hosts) {
  const Labels node = {{"node_id", kProxyNode}};
  const Labels search = {{"node_id", kProxyNode}, {"query_type", "search"}};
  Series series;
  series.requests =
      &registry_.counts("mpishards_batch_requests", "Requests that one batch took queries from.");
  series.queries = &registry_.counts("mpishards_batch_queries", "Query vectors of one batch.");
  series.route_seconds = &registry_.seconds("mpishards_route_seconds",
                                            "Routing of a batch, and its queries on their way to the ranks.");
  series.merge_seconds = &registry_.seconds(
      "mpishards_merge_seconds", "Merge of a batch on rank 0, waiting for the slowest rank included.");
  series.batch_seconds =
      &registry_.seconds("mpishards_batch_seconds", "A batch, from routing to its merged answer.");
  series.straggler =
      &registry_.gauge("mpishards_straggler_ratio",
                       "Slowest rank's search time of the last batch over the ranks' mean; 1 is best.",
                       {{"collection", collection}});
  series.scanned =
      &registry_.counter("mpishards_vectors_scanned_total",
                         "Queries times rows that they were compared with.", {{"collection", collection}});
  series.milvus_nq = &registry_.counts("milvus_querynode_search_nq", "Query vectors of one batch.", node);
  series.milvus_k = &registry_.counts("milvus_querynode_search_topk", "k of one batch.", node);
  series.milvus_core = &registry_.milliseconds(
      "milvus_querynode_sq_core_latency", "Milliseconds of the slowest rank's search of a batch.", search);
  series.milvus_reduce = &registry_.milliseconds("milvus_querynode_sq_reduce_latency",
                                                 "Milliseconds of a batch's merge.", search);
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    series.ranks.push_back(make_rank_series(std::to_string(rank), hosts[rank]));
  }
  return series;
}

BatchMetrics::RankSeries BatchMetrics::make_rank_series(const std::string& rank, const std::string& host) {
  return {&registry_.seconds("mpishards_shard_search_seconds", "Search of a batch on one rank.",
                             {{"rank", rank}, {"host", host}}),
          &registry_.milliseconds("milvus_querynode_sq_segment_latency",
                                  "Milliseconds of a batch's search on one rank.",
                                  {{"node_id", rank}, {"query_type", "search"}, {"segment_state", "Sealed"}}),
          &registry_.counter(
              "milvus_querynode_sq_req_count", "Searches and queries by rank.",
              {{"node_id", rank}, {"query_type", "search"}, {"status", "success"}, {"scope", "all"}})};
}

}  // namespace mpishards::serve

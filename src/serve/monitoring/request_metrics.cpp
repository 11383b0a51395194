#include "serve/monitoring/request_metrics.hpp"

#include <algorithm>
#include <cctype>
#include <mutex>
#include <string_view>
#include <utility>

namespace mpishards::serve {
namespace {

using prometheus::Gauge;
using prometheus::Labels;

/// Milvus names three kinds of requests that search.
std::string query_type_of(std::string_view method) {
  std::string type(method);
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type;
}

bool reads_rows(const std::string& query_type) {
  return query_type == "search" || query_type == "query";
}

std::string outcome_of(Code code) {
  if (code == Code::ok) return "success";
  return code == Code::cancelled ? "abandon" : "fail";
}

}  // namespace

Gauge& RequestMetrics::inflight(const std::string& front) {
  return registry_.gauge("mpishards_inflight_requests", "Requests that have begun and not ended.",
                         {{"front", front}});
}

void RequestMetrics::begin(const RequestContext& context) {
  inflight(context.front).Increment();
}

void RequestMetrics::finish(const RequestRecord& record, const std::string& collection) {
  const RequestContext& context = *record.context;
  const Series& series = series_of({context.front, context.method, collection, record.status.code});
  series.inflight->Decrement();
  series.requests->Increment();
  series.seconds->Observe(record.total_seconds);
  series.request_bytes->Increment(static_cast<double>(context.request_bytes));
  series.answer_bytes->Increment(static_cast<double>(record.answer_bytes));
  series.milvus_total->Increment();
  series.milvus_outcome->Increment();
  series.milvus_latency->Observe(record.total_seconds * kMillisecondsPerSecond);
  series.milvus_received_bytes->Increment(static_cast<double>(context.request_bytes));
  series.milvus_sent_bytes->Increment(static_cast<double>(record.answer_bytes));
  if (series.rejected != nullptr) series.rejected->Increment();
  if (series.search.queries != nullptr) finish_search(record, series.search);
}

const RequestMetrics::Series& RequestMetrics::series_of(const Key& key) {
  {
    const std::shared_lock lock(mutex_);
    if (const auto found = series_.find(key); found != series_.end()) return found->second;
  }
  const Series made = make_series(key);
  const std::unique_lock lock(mutex_);
  return series_.try_emplace(key, made).first->second;
}

RequestMetrics::Series RequestMetrics::make_series(const Key& key) {
  const Labels method = {{"front", key.front}, {"method", key.method}};
  const std::string status(to_string(key.code));
  const Labels milvus_method = {{"node_id", kProxyNode}, {"function_name", key.method}};
  const Labels message = {{"node_id", kProxyNode}, {"msg_type", query_type_of(key.method)}};
  const auto milvus_requests = [&](const std::string& outcome) {
    Labels labels = milvus_method;
    labels.insert({{"status", outcome}, {"db_name", kMilvusDatabase}, {"collection_name", key.collection}});
    return &registry_.counter("milvus_proxy_req_count", "Requests by outcome; total counts all of them.",
                              labels);
  };
  Series series;
  series.inflight = &inflight(key.front);
  series.requests =
      &registry_.counter("mpishards_requests_total", "Requests by the status that they were answered with.",
                         {{"front", key.front}, {"method", key.method}, {"status", status}});
  series.seconds =
      &registry_.seconds("mpishards_request_seconds", "From arrival of a request to its answer.", method);
  series.request_bytes = &registry_.counter("mpishards_request_bytes_total", "Bytes of requests.", method);
  series.answer_bytes = &registry_.counter("mpishards_answer_bytes_total", "Bytes of answers.", method);
  if (key.code == Code::overloaded || key.code == Code::memory_limit || key.code == Code::unauthenticated ||
      key.code == Code::not_ready) {
    series.rejected = &registry_.counter(
        "mpishards_rejected_total", "Requests refused before any work, by reason.", {{"reason", status}});
  }
  series.milvus_total = milvus_requests("total");
  series.milvus_outcome = milvus_requests(outcome_of(key.code));
  series.milvus_latency = &registry_.milliseconds(
      "milvus_proxy_req_latency", "Milliseconds from arrival of a request to its answer.", milvus_method);
  series.milvus_received_bytes =
      &registry_.counter("milvus_proxy_receive_bytes_count", "Bytes of requests.", message);
  series.milvus_sent_bytes =
      &registry_.counter("milvus_proxy_send_bytes_count", "Bytes of answers.", message);
  if (reads_rows(query_type_of(key.method))) series.search = make_search_series(key);
  return series;
}

RequestMetrics::SearchSeries RequestMetrics::make_search_series(const Key& key) {
  const std::string type = query_type_of(key.method);
  const Labels proxy = {{"node_id", kProxyNode}, {"query_type", type}};
  Labels collection = proxy;
  collection.insert({"collection_name", key.collection});
  Labels database = collection;
  database.insert({"db_name", kMilvusDatabase});
  SearchSeries series;
  series.queries = &registry_.counter("mpishards_queries_total", "Query vectors that were asked.",
                                      {{"collection", key.collection}});
  series.queue_seconds = &registry_.seconds("mpishards_queue_seconds",
                                            "From arrival of a request to the first batch that holds it.");
  series.milvus_latency =
      &registry_.milliseconds("milvus_proxy_sq_latency", "Milliseconds of a search or query.", database);
  series.milvus_collection_latency = &registry_.milliseconds(
      "milvus_proxy_collection_sq_latency", "Milliseconds of a search or query, by collection.", collection);
  series.milvus_vectors =
      &registry_.counter("milvus_proxy_search_vectors_count", "Query vectors that were searched.", database);
  series.milvus_nq =
      &registry_.counter("milvus_proxy_received_nq", "Query vectors that were asked.", database);
  series.milvus_wait = &registry_.milliseconds("milvus_proxy_sq_wait_result_latency",
                                               "Milliseconds that a request waited for its batches.", proxy);
  series.milvus_reduce = &registry_.milliseconds(
      "milvus_proxy_sq_reduce_result_latency", "Milliseconds of merging the answers of one request.", proxy);
  series.milvus_queue = &registry_.milliseconds("milvus_proxy_req_in_queue_latency",
                                                "Milliseconds from arrival to the first batch.",
                                                {{"node_id", kProxyNode}, {"function_name", key.method}});
  series.milvus_node_queue =
      &registry_.milliseconds("milvus_querynode_sq_queue_latency", "Milliseconds in the queue.", proxy);
  Labels scope = proxy;
  scope.insert({"scope", "all"});
  series.milvus_node_latency =
      &registry_.milliseconds("milvus_querynode_sq_req_latency", "Milliseconds of a search or query.", scope);
  return series;
}

void RequestMetrics::finish_search(const RequestRecord& record, const SearchSeries& series) {
  const double milliseconds = record.total_seconds * kMillisecondsPerSecond;
  series.queries->Increment(static_cast<double>(record.queries));
  series.milvus_nq->Increment(static_cast<double>(record.queries));
  series.milvus_latency->Observe(milliseconds);
  series.milvus_collection_latency->Observe(milliseconds);
  series.milvus_node_latency->Observe(milliseconds);
  if (!record.status.is_ok() || record.batches.empty()) return;
  series.milvus_vectors->Increment(static_cast<double>(record.queries));
  series.queue_seconds->Observe(record.queue_seconds);
  series.milvus_queue->Observe(record.queue_seconds * kMillisecondsPerSecond);
  series.milvus_node_queue->Observe(record.queue_seconds * kMillisecondsPerSecond);
  double merge = 0;
  double batches = 0;
  for (const auto& batch : record.batches) {
    merge += batch->merge_seconds;
    batches += batch->total_seconds;
  }
  series.milvus_wait->Observe(batches * kMillisecondsPerSecond);
  series.milvus_reduce->Observe(merge * kMillisecondsPerSecond);
}

}  // namespace mpishards::serve

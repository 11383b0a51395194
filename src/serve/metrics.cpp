#include "serve/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "core/version.hpp"
#include "serve/process_stats.hpp"

namespace mpishards::serve {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using Buckets = Histogram::BucketBoundaries;

/// 50 us to a minute, three to a decade: a lone query takes about a millisecond, a request of 100 000 many
/// seconds.
const Buckets kSecondsBuckets = {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,     0.25,   0.5,     1,      2.5,   5,      10,    25,   60};
/// 1 ms to 131 s by powers of two, as in Milvus.
const Buckets kMillisecondsBuckets = [] {
  Buckets buckets;
  for (int power = 0; power <= 17; ++power) buckets.push_back(std::ldexp(1.0, power));
  return buckets;
}();
/// 1 to 131072 by powers of two: requests of a batch, queries, k.
const Buckets kCountBuckets = kMillisecondsBuckets;

constexpr double kMillisecondsPerSecond = 1000;
constexpr const char* kNode = "0";  // rank 0 is Milvus' proxy here; its ranks are the query nodes
constexpr const char* kDatabase = "default";

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

/// All families, and the series of the hot path found by one look-up.
class Metrics::Series {
 public:
  Series() {
    gauge("mpishards_build_info", "What runs here; always 1.", build_labels()).Set(1);
    gauge("milvus_build_info", "What runs here; always 1.", build_labels()).Set(1);
  }

  void begin(const RequestContext& context) { inflight(context.front).Increment(); }

  void finish(const RequestRecord& record) {
    const RequestContext& context = *record.context;
    const RequestSeries& series =
        request_series({context.front, context.method, known(record.collection), record.status.code});
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
    if (series.search) finish_search(record, *series.search);
  }

  void finish(const BatchRecord& record) {
    const BatchSeries& series = batch_series(known(record.collection), record.search_hosts);
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
    series.scanned->Increment(static_cast<double>(record.queries) *
                              static_cast<double>(rows_of(record.collection)));
  }

  void change(const CollectionInfo& info) {
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
    gauge("mpishards_collection_loaded", "1 while a collection can be searched.", name)
        .Set(info.state == LoadState::loaded ? 1 : 0);
    gauge("mpishards_collection_rows", "Rows that can be found.", name).Set(static_cast<double>(info.rows));
    gauge("mpishards_collection_generation", "How often a collection was loaded.", name)
        .Set(static_cast<double>(info.generation));
    for (const ShardInfo& shard : info.shards) change(info, shard);
    for (const ShardInfo& shard : gone) forget(info.name, shard);
    change_totals(collections, std::move(nodes));
  }

  std::string text(const Scrape& scrape) {
    const std::lock_guard lock(scrape_mutex_);
    refresh(scrape);
    refresh(process_stats());
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

 private:
  struct SearchSeries {
    Counter* queries;
    Histogram* queue_seconds;
    Histogram* milvus_latency;
    Histogram* milvus_collection_latency;
    Counter* milvus_vectors;
    Counter* milvus_nq;
    Histogram* milvus_wait;
    Histogram* milvus_reduce;
    Histogram* milvus_queue;
    Histogram* milvus_node_queue;
    Histogram* milvus_node_latency;
  };
  struct RequestSeries {
    Gauge* inflight;
    Counter* requests;
    Histogram* seconds;
    Counter* request_bytes;
    Counter* answer_bytes;
    Counter* rejected;  // null for what was not refused for want of room
    Counter* milvus_total;
    Counter* milvus_outcome;
    Histogram* milvus_latency;
    Counter* milvus_received_bytes;
    Counter* milvus_sent_bytes;
    std::unique_ptr<SearchSeries> search;  // null for methods that read no rows
  };
  struct RankSeries {
    Histogram* search_seconds;
    Histogram* milvus_segment;
    Counter* milvus_requests;
  };
  struct BatchSeries {
    Histogram* requests;
    Histogram* queries;
    Histogram* route_seconds;
    Histogram* merge_seconds;
    Histogram* batch_seconds;
    Gauge* straggler;
    Counter* scanned;
    Histogram* milvus_nq;
    Histogram* milvus_k;
    Histogram* milvus_core;
    Histogram* milvus_reduce;
    std::vector<RankSeries> ranks;
  };
  struct RequestKey {
    std::string front;
    std::string method;
    std::string collection;
    Code code;
    auto operator<=>(const RequestKey&) const = default;
  };

  struct Node {
    double segments = 0;
    double bytes = 0;
  };

  static Labels build_labels() {
    return {{"version", std::string(version())},
            {"revision", std::string(revision())},
            {"build_type", std::string(build_type())}};
  }

  // Registering a family or series that is there already returns it.
  Counter& counter(const char* name, const char* help, const Labels& labels = {}) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
  }
  Family<Gauge>& gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
  }
  Gauge& gauge(const char* name, const char* help, const Labels& labels = {}) {
    return gauges(name, help).Add(labels);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets,
                       const Labels& labels = {}) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels, buckets);
  }
  Histogram& milliseconds(const char* name, const char* help, const Labels& labels) {
    return histogram(name, help, kMillisecondsBuckets, labels);
  }

  Gauge& inflight(const std::string& front) {
    return gauge("mpishards_inflight_requests", "Requests that have begun and not ended.",
                 {{"front", front}});
  }

  /// Names that clients made up would make series without end.
  std::string known(const std::string& collection) const {
    const std::shared_lock lock(mutex_);
    return collections_.contains(collection) ? collection : "";
  }

  std::int64_t rows_of(const std::string& collection) const {
    const std::shared_lock lock(mutex_);
    const auto found = collections_.find(collection);
    return found == collections_.end() ? 0 : found->second.rows;
  }

  const RequestSeries& request_series(const RequestKey& key) {
    {
      const std::shared_lock lock(mutex_);
      if (const auto found = requests_.find(key); found != requests_.end()) return found->second;
    }
    RequestSeries made = make_request_series(key);
    const std::unique_lock lock(mutex_);
    return requests_.try_emplace(key, std::move(made)).first->second;
  }

  RequestSeries make_request_series(const RequestKey& key) {
    const Labels method = {{"front", key.front}, {"method", key.method}};
    const std::string status(to_string(key.code));
    const Labels milvus_method = {{"node_id", kNode}, {"function_name", key.method}};
    const Labels message = {{"node_id", kNode}, {"msg_type", query_type_of(key.method)}};
    const auto milvus_requests = [&](const std::string& outcome) {
      Labels labels = milvus_method;
      labels.insert({{"status", outcome}, {"db_name", kDatabase}, {"collection_name", key.collection}});
      return &counter("milvus_proxy_req_count", "Requests by outcome; total counts all of them.", labels);
    };
    RequestSeries series{};
    series.inflight = &inflight(key.front);
    series.requests =
        &counter("mpishards_requests_total", "Requests by the status that they were answered with.",
                 {{"front", key.front}, {"method", key.method}, {"status", status}});
    series.seconds = &histogram("mpishards_request_seconds", "From arrival of a request to its answer.",
                                kSecondsBuckets, method);
    series.request_bytes = &counter("mpishards_request_bytes_total", "Bytes of requests.", method);
    series.answer_bytes = &counter("mpishards_answer_bytes_total", "Bytes of answers.", method);
    if (key.code == Code::overloaded || key.code == Code::memory_limit || key.code == Code::unauthenticated ||
        key.code == Code::not_ready) {
      series.rejected = &counter("mpishards_rejected_total", "Requests refused before any work, by reason.",
                                 {{"reason", status}});
    }
    series.milvus_total = milvus_requests("total");
    series.milvus_outcome = milvus_requests(outcome_of(key.code));
    series.milvus_latency = &milliseconds(
        "milvus_proxy_req_latency", "Milliseconds from arrival of a request to its answer.", milvus_method);
    series.milvus_received_bytes =
        &counter("milvus_proxy_receive_bytes_count", "Bytes of requests.", message);
    series.milvus_sent_bytes = &counter("milvus_proxy_send_bytes_count", "Bytes of answers.", message);
    if (reads_rows(query_type_of(key.method))) {
      series.search = std::make_unique<SearchSeries>(make_search_series(key));
    }
    return series;
  }

  SearchSeries make_search_series(const RequestKey& key) {
    const std::string type = query_type_of(key.method);
    const Labels proxy = {{"node_id", kNode}, {"query_type", type}};
    Labels collection = proxy;
    collection.insert({"collection_name", key.collection});
    Labels database = collection;
    database.insert({"db_name", kDatabase});
    SearchSeries series{};
    series.queries = &counter("mpishards_queries_total", "Query vectors that were asked.",
                              {{"collection", key.collection}});
    series.queue_seconds =
        &histogram("mpishards_queue_seconds", "From arrival of a request to the first batch that holds it.",
                   kSecondsBuckets);
    series.milvus_latency =
        &milliseconds("milvus_proxy_sq_latency", "Milliseconds of a search or query.", database);
    series.milvus_collection_latency =
        &milliseconds("milvus_proxy_collection_sq_latency",
                      "Milliseconds of a search or query, by collection.", collection);
    series.milvus_vectors =
        &counter("milvus_proxy_search_vectors_count", "Query vectors that were searched.", database);
    series.milvus_nq = &counter("milvus_proxy_received_nq", "Query vectors that were asked.", database);
    series.milvus_wait = &milliseconds("milvus_proxy_sq_wait_result_latency",
                                       "Milliseconds that a request waited for its batches.", proxy);
    series.milvus_reduce = &milliseconds("milvus_proxy_sq_reduce_result_latency",
                                         "Milliseconds of merging the answers of one request.", proxy);
    series.milvus_queue =
        &milliseconds("milvus_proxy_req_in_queue_latency", "Milliseconds from arrival to the first batch.",
                      {{"node_id", kNode}, {"function_name", key.method}});
    series.milvus_node_queue =
        &milliseconds("milvus_querynode_sq_queue_latency", "Milliseconds in the queue.", proxy);
    Labels scope = proxy;
    scope.insert({"scope", "all"});
    series.milvus_node_latency =
        &milliseconds("milvus_querynode_sq_req_latency", "Milliseconds of a search or query.", scope);
    return series;
  }

  static void finish_search(const RequestRecord& record, const SearchSeries& series) {
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

  /// @param hosts  by rank
  const BatchSeries& batch_series(const std::string& collection, const std::vector<std::string>& hosts) {
    {
      const std::shared_lock lock(mutex_);
      if (const auto found = batches_.find(collection); found != batches_.end()) return found->second;
    }
    BatchSeries made = make_batch_series(collection, hosts);
    const std::unique_lock lock(mutex_);
    return batches_.try_emplace(collection, std::move(made)).first->second;
  }

  BatchSeries make_batch_series(const std::string& collection, const std::vector<std::string>& hosts) {
    const Labels node = {{"node_id", kNode}};
    const Labels search = {{"node_id", kNode}, {"query_type", "search"}};
    BatchSeries series{};
    series.requests =
        &histogram("mpishards_batch_requests", "Requests that one batch took queries from.", kCountBuckets);
    series.queries = &histogram("mpishards_batch_queries", "Query vectors of one batch.", kCountBuckets);
    series.route_seconds =
        &histogram("mpishards_route_seconds",
                   "Routing of a batch, and its queries on their way to the ranks.", kSecondsBuckets);
    series.merge_seconds =
        &histogram("mpishards_merge_seconds",
                   "Merge of a batch on rank 0, waiting for the slowest rank included.", kSecondsBuckets);
    series.batch_seconds =
        &histogram("mpishards_batch_seconds", "A batch, from routing to its merged answer.", kSecondsBuckets);
    series.straggler = &gauge("mpishards_straggler_ratio",
                              "Slowest rank's search time of the last batch over the ranks' mean; 1 is best.",
                              {{"collection", collection}});
    series.scanned =
        &counter("mpishards_vectors_scanned_total", "Queries times rows that they were compared with.",
                 {{"collection", collection}});
    series.milvus_nq =
        &histogram("milvus_querynode_search_nq", "Query vectors of one batch.", kCountBuckets, node);
    series.milvus_k = &histogram("milvus_querynode_search_topk", "k of one batch.", kCountBuckets, node);
    series.milvus_core = &milliseconds("milvus_querynode_sq_core_latency",
                                       "Milliseconds of the slowest rank's search of a batch.", search);
    series.milvus_reduce =
        &milliseconds("milvus_querynode_sq_reduce_latency", "Milliseconds of a batch's merge.", search);
    for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
      series.ranks.push_back(make_rank_series(std::to_string(rank), hosts[rank]));
    }
    return series;
  }

  RankSeries make_rank_series(const std::string& rank, const std::string& host) {
    return {
        &histogram("mpishards_shard_search_seconds", "Search of a batch on one rank.", kSecondsBuckets,
                   {{"rank", rank}, {"host", host}}),
        &milliseconds("milvus_querynode_sq_segment_latency", "Milliseconds of a batch's search on one rank.",
                      {{"node_id", rank}, {"query_type", "search"}, {"segment_state", "Sealed"}}),
        &counter("milvus_querynode_sq_req_count", "Searches and queries by rank.",
                 {{"node_id", rank}, {"query_type", "search"}, {"status", "success"}, {"scope", "all"}})};
  }

  static Labels shard_labels(const std::string& collection, const ShardInfo& shard) {
    return {{"collection", collection}, {"rank", std::to_string(shard.rank)}, {"host", shard.host}};
  }

  Gauge& milvus_rows(const std::string& collection, int rank) {
    return gauge("milvus_querynode_entity_num", "Rows on one rank.",
                 {{"node_id", std::to_string(rank)},
                  {"db_name", kDatabase},
                  {"collection_name", collection},
                  {"segment_state", "Sealed"}});
  }

  void forget(const std::string& collection, const ShardInfo& shard) {
    const Labels labels = shard_labels(collection, shard);
    for (Family<Gauge>* family : {&shard_rows_, &shard_bytes_, &shard_load_seconds_}) {
      family->Remove(&family->Add(labels));
    }
    milvus_rows(collection, shard.rank).Set(0);
  }

  void change(const CollectionInfo& info, const ShardInfo& shard) {
    const Labels labels = shard_labels(info.name, shard);
    shard_rows_.Add(labels).Set(static_cast<double>(shard.rows));
    shard_bytes_.Add(labels).Set(static_cast<double>(shard.bytes));
    shard_load_seconds_.Add(labels).Set(shard.load_seconds);
    milvus_rows(info.name, shard.rank).Set(static_cast<double>(shard.rows));
    if (info.state != LoadState::loaded) return;
    milliseconds("milvus_querynode_load_segment_latency", "Milliseconds of loading one shard.",
                 {{"node_id", std::to_string(shard.rank)}})
        .Observe(shard.load_seconds * kMillisecondsPerSecond);
  }

  /// Milvus has a query node for each rank, which holds one segment of every loaded collection.
  void change_totals(const std::map<std::string, CollectionInfo>& collections, std::map<int, Node> nodes) {
    double loaded = 0;
    for (const auto& [name, info] : collections) {
      if (info.state == LoadState::loaded) ++loaded;
      for (const ShardInfo& shard : info.shards) {
        ++nodes[shard.rank].segments;
        nodes[shard.rank].bytes += static_cast<double>(shard.bytes);
      }
    }
    const auto total = static_cast<double>(collections.size());
    gauge("milvus_rootcoord_collection_num", "Collections.", {{"db_name", kDatabase}}).Set(total);
    gauge("milvus_rootcoord_partition_num", "Partitions.").Set(total);
    gauge("milvus_rootcoord_proxy_num", "Front ends.").Set(1);
    for (const auto& [rank, node] : nodes) {
      const Labels id = {{"node_id", std::to_string(rank)}};
      Labels segment = id;
      segment.insert({"segment_state", "Sealed"});
      gauge("milvus_querynode_collection_num", "Loaded collections.", id).Set(loaded);
      gauge("milvus_querynode_partition_num", "Loaded partitions.", id).Set(loaded);
      gauge("milvus_querynode_segment_num", "Shards on one rank.", segment).Set(node.segments);
      gauge("milvus_querynode_entity_size", "Bytes of vectors and ids on one rank.", segment).Set(node.bytes);
    }
  }

  void refresh(const Scrape& scrape) {
    gauge("mpishards_ready", "1 while every collection is loaded and the server does not drain.")
        .Set(scrape.is_ready ? 1 : 0);
    gauge("mpishards_draining", "1 once the server was asked to end.").Set(scrape.is_draining ? 1 : 0);
    gauge("mpishards_ranks", "MPI ranks that answer together.").Set(scrape.ranks);
    gauge("mpishards_queued_requests", "Requests accepted and not answered.")
        .Set(static_cast<double>(scrape.queued_requests));
    gauge("mpishards_queued_bytes", "Bytes that the queue's requests and answers need.")
        .Set(static_cast<double>(scrape.queued_bytes));
    gauge("mpishards_queue_limit_bytes", "Bytes beyond which requests are refused.")
        .Set(static_cast<double>(scrape.queue_limit_bytes));
    raise_to(counter("mpishards_dropped_traces_total", "Sampled traces that were lost."),
             scrape.dropped_traces);
    raise_to(counter("mpishards_dropped_log_lines_total", "Lines missing from the access log."),
             scrape.dropped_log_lines);
    Family<Gauge>& nodes = gauges("milvus_num_node", "Nodes by role: every rank is a query node.");
    nodes.Add({{"role_name", "querynode"}}).Set(scrape.ranks);
    nodes.Add({{"role_name", "proxy"}}).Set(1);
  }

  void refresh(const ProcessStats& stats) {
    raise_to(counter("process_cpu_seconds_total", "User and system CPU time of rank 0."), stats.cpu_seconds);
    gauge("process_resident_memory_bytes", "Resident memory of rank 0.")
        .Set(static_cast<double>(stats.resident_bytes));
    gauge("process_virtual_memory_bytes", "Virtual memory of rank 0.")
        .Set(static_cast<double>(stats.virtual_bytes));
    gauge("process_open_fds", "Open file descriptors of rank 0.").Set(static_cast<double>(stats.open_files));
    gauge("process_max_fds", "Most file descriptors of rank 0.").Set(static_cast<double>(stats.most_files));
    gauge("process_start_time_seconds", "Start of rank 0 in seconds since 1970.").Set(stats.start_seconds);
  }

  template <typename Number>
  static void raise_to(Counter& counter, Number total) {
    counter.Increment(std::max(0.0, static_cast<double>(total) - counter.Value()));
  }

  prometheus::Registry registry_;
  Family<Gauge>& shard_rows_ = gauges("mpishards_shard_rows", "Rows in the memory of one rank.");
  Family<Gauge>& shard_bytes_ =
      gauges("mpishards_shard_bytes", "Bytes of vectors and ids in the memory of one rank.");
  Family<Gauge>& shard_load_seconds_ =
      gauges("mpishards_shard_load_seconds", "What the last load took on one rank.");
  std::mutex scrape_mutex_;          // counters are raised by one scrape at a time
  mutable std::shared_mutex mutex_;  // of what follows
  std::map<RequestKey, RequestSeries> requests_;
  std::map<std::string, BatchSeries> batches_;  // by collection
  std::map<std::string, CollectionInfo> collections_;
  std::map<int, Node> nodes_;  // by rank: all that ever had a shard, empty
};

Metrics::Metrics() : series_(std::make_unique<Series>()) {}
Metrics::~Metrics() = default;

void Metrics::request_begun(const RequestContext& context) {
  series_->begin(context);
}
void Metrics::request_finished(const RequestRecord& record) {
  series_->finish(record);
}
void Metrics::batch_finished(const BatchRecord& record) {
  series_->finish(record);
}
void Metrics::collection_changed(const CollectionInfo& info) {
  series_->change(info);
}
std::string Metrics::text(const Scrape& scrape) const {
  return series_->text(scrape);
}

}  // namespace mpishards::serve

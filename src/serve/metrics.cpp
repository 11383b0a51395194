#include "serve/metrics.hpp"

#include <algorithm>
#include <mutex>

#include "core/version.hpp"
#include "serve/monitoring/batch_metrics.hpp"
#include "serve/monitoring/collection_metrics.hpp"
#include "serve/monitoring/metric_registry.hpp"
#include "serve/monitoring/request_metrics.hpp"
#include "serve/process_stats.hpp"

namespace mpishards::serve {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Labels;

Labels build_labels() {
  return {{"version", std::string(version())},
          {"revision", std::string(revision())},
          {"build_type", std::string(build_type())}};
}

template <typename Number>
void raise_to(Counter& counter, Number total) {
  counter.Increment(std::max(0.0, static_cast<double>(total) - counter.Value()));
}

void refresh(MetricRegistry& registry, const Scrape& scrape) {
  registry.gauge("mpishards_ready", "1 while every collection is loaded and the server does not drain.")
      .Set(scrape.is_ready ? 1 : 0);
  registry.gauge("mpishards_draining", "1 once the server was asked to end.").Set(scrape.is_draining ? 1 : 0);
  registry.gauge("mpishards_ranks", "MPI ranks that answer together.").Set(scrape.ranks);
  registry.gauge("mpishards_queued_requests", "Requests accepted and not answered.")
      .Set(static_cast<double>(scrape.queued_requests));
  registry.gauge("mpishards_queued_bytes", "Bytes that the queue's requests and answers need.")
      .Set(static_cast<double>(scrape.queued_bytes));
  registry.gauge("mpishards_queue_limit_bytes", "Bytes beyond which requests are refused.")
      .Set(static_cast<double>(scrape.queue_limit_bytes));
  raise_to(registry.counter("mpishards_dropped_traces_total", "Sampled traces that were lost."),
           scrape.dropped_traces);
  raise_to(registry.counter("mpishards_dropped_log_lines_total", "Lines missing from the access log."),
           scrape.dropped_log_lines);
  Family<Gauge>& nodes = registry.gauges("milvus_num_node", "Nodes by role: every rank is a query node.");
  nodes.Add({{"role_name", "querynode"}}).Set(scrape.ranks);
  nodes.Add({{"role_name", "proxy"}}).Set(1);
}

void refresh(MetricRegistry& registry, const ProcessStats& stats) {
  raise_to(registry.counter("process_cpu_seconds_total", "User and system CPU time of rank 0."),
           stats.cpu_seconds);
  registry.gauge("process_resident_memory_bytes", "Resident memory of rank 0.")
      .Set(static_cast<double>(stats.resident_bytes));
  registry.gauge("process_virtual_memory_bytes", "Virtual memory of rank 0.")
      .Set(static_cast<double>(stats.virtual_bytes));
  registry.gauge("process_open_fds", "Open file descriptors of rank 0.")
      .Set(static_cast<double>(stats.open_files));
  registry.gauge("process_max_fds", "Most file descriptors of rank 0.")
      .Set(static_cast<double>(stats.most_files));
  registry.gauge("process_start_time_seconds", "Start of rank 0 in seconds since 1970.")
      .Set(stats.start_seconds);
}

}  // namespace

struct Metrics::Series {
  Series() {
    for (const char* name : {"mpishards_build_info", "milvus_build_info"})
      registry.gauge(name, "What runs here; always 1.", build_labels()).Set(1);
  }

  MetricRegistry registry;
  RequestMetrics requests{registry};
  BatchMetrics batches{registry};
  CollectionMetrics collections{registry};
  std::mutex scrape_mutex;  // counters are raised by one scrape at a time
};

Metrics::Metrics() : series_(std::make_unique<Series>()) {}
Metrics::~Metrics() = default;

void Metrics::request_begun(const RequestContext& context) {
  series_->requests.begin(context);
}

void Metrics::request_finished(const RequestRecord& record) {
  series_->requests.finish(record, series_->collections.known(record.collection));
}

void Metrics::batch_finished(const BatchRecord& record) {
  series_->batches.finish(record, series_->collections.known(record.collection),
                          series_->collections.rows_of(record.collection));
}

void Metrics::collection_changed(const CollectionInfo& info) {
  series_->collections.change(info);
}

std::string Metrics::text(const Scrape& scrape) const {
  const std::lock_guard lock(series_->scrape_mutex);
  refresh(series_->registry, scrape);
  refresh(series_->registry, process_stats());
  return series_->registry.text();
}

}  // namespace mpishards::serve

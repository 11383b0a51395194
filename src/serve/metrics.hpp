#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "serve/observer.hpp"

namespace mpishards::serve {

/// What the server knows of itself at the moment of a scrape.
struct Scrape {
  bool is_ready = false;
  bool is_draining = false;
  int ranks = 0;
  std::int64_t queued_requests = 0;
  std::int64_t queued_bytes = 0;
  std::int64_t queue_limit_bytes = 0;
  std::int64_t dropped_traces = 0;
  std::int64_t dropped_log_lines = 0;
};

/// Counts what the server does, for Prometheus: under our own names (mpishards_..., seconds and bytes) and
/// under those names of Milvus that its dashboards ask for (milvus_..., milliseconds).
///
/// Labels are bounded whatever clients send: only names of collections that are served become label values.
/// Methods must come from a fixed list; the fronts see to that.
class Metrics final : public Observer {
 public:
  Metrics();
  ~Metrics() override;

  void request_begun(const RequestContext& context) override;
  void request_finished(const RequestRecord& record) override;
  void batch_finished(const BatchRecord& record) override;
  void collection_changed(const CollectionInfo& info) override;

  /// All metrics in the text format of Prometheus, version 0.0.4. @par Cost  about a millisecond
  std::string text(const Scrape& scrape) const;

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

/// The content type of Metrics::text.
inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace mpishards::serve

#include "serve/observability.hpp"

#include "core/error.hpp"

namespace mpishards::serve {

void check_observability(const ObservabilityConfig& config) {
  if (!(config.trace_ratio >= 0 && config.trace_ratio <= 1)) {
    throw Error(ErrorKind::usage,
                "--trace-ratio is " + std::to_string(config.trace_ratio) + "; expected 0 to 1");
  }
  if (!config.trace_endpoint.empty() && !config.trace_file.empty()) {
    throw Error(ErrorKind::usage, "traces go to --trace-endpoint or to --trace-file; give one of them");
  }
}

Observability::Observability(const ObservabilityConfig& config, Observers& observers)
    : metrics_(std::make_shared<Metrics>()) {
  check_observability(config);
  observers.add(metrics_);
  if (!config.access_log.empty()) {
    access_log_ = std::make_shared<AccessLog>(config.access_log);
    observers.add(access_log_);
  }
  if (config.trace_endpoint.empty() && config.trace_file.empty()) return;
  auto sink = config.trace_file.empty() ? make_otlp_sink(config.trace_endpoint)
                                        : make_trace_file_sink(config.trace_file);
  tracer_ = std::make_shared<Tracer>(std::move(sink), config.trace_ratio);
  observers.add(tracer_);
}

std::string Observability::metrics_text(Scrape scrape) const {
  if (access_log_) scrape.dropped_log_lines = access_log_->dropped();
  if (tracer_) scrape.dropped_traces = tracer_->dropped();
  return metrics_->text(scrape);
}

void Observability::reopen_logs() {
  if (access_log_) access_log_->reopen();
}

}  // namespace mpishards::serve

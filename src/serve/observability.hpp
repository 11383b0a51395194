#pragma once

#include <memory>
#include <string>

#include "serve/access_log.hpp"
#include "serve/metrics.hpp"
#include "serve/observer.hpp"
#include "serve/trace.hpp"

namespace mpishards::serve {

/// What is written about requests, and where to.
struct ObservabilityConfig {
  std::string access_log;      // file; empty: none
  std::string trace_endpoint;  // of an OTLP/HTTP collector; empty: none
  std::string trace_file;      // in the Chrome trace format; empty: none
  double trace_ratio = 0;      // share of the requests without a trace context of their own that are traced
};

/// @throws Error{usage} where the ratio is not within 0 to 1 or both kinds of traces are asked for
void check_observability(const ObservabilityConfig& config);

/// The observers of a server, as its configuration wants them.
class Observability {
 public:
  /// Adds its observers. @throws Error where a file can't be opened or an address is none
  Observability(const ObservabilityConfig& config, Observers& observers);

  /// @param scrape  what it says of lost traces and lines is filled in here
  std::string metrics_text(Scrape scrape) const;
  /// Goes on in new files where old ones were rotated away.
  void reopen_logs();

 private:
  std::shared_ptr<Metrics> metrics_;
  std::shared_ptr<AccessLog> access_log_;  // may be null
  std::shared_ptr<Tracer> tracer_;         // may be null
};

}  // namespace mpishards::serve

#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>

namespace mpishards::serve {

inline constexpr double kMillisecondsPerSecond = 1000;
/// Rank 0 is Milvus' proxy here; the ranks are its query nodes.
inline constexpr const char* kProxyNode = "0";
inline constexpr const char* kMilvusDatabase = "default";

/// Finds or makes families and series by name; thread safe. A family or series that is there already is
/// returned, so a name has one help text and one set of buckets.
class MetricRegistry {
 public:
  prometheus::Counter& counter(const char* name, const char* help, const prometheus::Labels& labels = {});
  prometheus::Family<prometheus::Gauge>& gauges(const char* name, const char* help);
  prometheus::Gauge& gauge(const char* name, const char* help, const prometheus::Labels& labels = {});
  /// Buckets from 50 us to a minute, three to a decade.
  prometheus::Histogram& seconds(const char* name, const char* help, const prometheus::Labels& labels = {});
  /// Buckets from 1 ms to 131 s by powers of two, as in Milvus.
  prometheus::Histogram& milliseconds(const char* name, const char* help, const prometheus::Labels& labels);
  /// Buckets from 1 to 131072 by powers of two: requests of a batch, queries, k.
  prometheus::Histogram& counts(const char* name, const char* help, const prometheus::Labels& labels = {});

  /// All series in the text format of Prometheus, version 0.0.4.
  std::string text() const;

 private:
  prometheus::Registry registry_;
};

}  // namespace mpishards::serve

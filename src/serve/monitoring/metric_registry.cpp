#include "serve/monitoring/metric_registry.hpp"

#include <prometheus/text_serializer.h>

#include <cmath>

namespace mpishards::serve {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using Buckets = Histogram::BucketBoundaries;

/// A lone query takes about a millisecond, a request of 100 000 many seconds.
const Buckets kSecondsBuckets = {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,     0.25,   0.5,     1,      2.5,   5,      10,    25,   60};
const Buckets kPowersOfTwo = [] {
  Buckets buckets;
  for (int power = 0; power <= 17; ++power) buckets.push_back(std::ldexp(1.0, power));
  return buckets;
}();

Histogram& histogram(prometheus::Registry& registry, const char* name, const char* help,
                     const Buckets& buckets, const Labels& labels) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels, buckets);
}

}  // namespace

Counter& MetricRegistry::counter(const char* name, const char* help, const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
}

Family<Gauge>& MetricRegistry::gauges(const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
}

Gauge& MetricRegistry::gauge(const char* name, const char* help, const Labels& labels) {
  return gauges(name, help).Add(labels);
}

Histogram& MetricRegistry::seconds(const char* name, const char* help, const Labels& labels) {
  return histogram(registry_, name, help, kSecondsBuckets, labels);
}

Histogram& MetricRegistry::milliseconds(const char* name, const char* help, const Labels& labels) {
  return histogram(registry_, name, help, kPowersOfTwo, labels);
}

Histogram& MetricRegistry::counts(const char* name, const char* help, const Labels& labels) {
  return histogram(registry_, name, help, kPowersOfTwo, labels);
}

std::string MetricRegistry::text() const {
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace mpishards::serve

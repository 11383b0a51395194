#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/topk.hpp"
#include "serve/client.hpp"

namespace mpishards::bench {

/// What to do to a server, and for how long.
struct LoadPlan {
  serve::ClientConfig server;
  std::string collection;
  serve::ServedCollection described;
  std::int64_t nq = 1;  // of one request
  std::int64_t k = 10;
  std::string params;        // JSON, for servers whose search has some
  std::int64_t clients = 1;  // connections, each with one request at most at a time
  /// Requests a second, evenly spaced, whether or not earlier ones were answered. Empty: each client asks
  /// again as soon as it has its answer.
  std::optional<double> rate;
  double warm_up_seconds = 1;
  double seconds = 10;             // after the warm-up
  std::int64_t most_requests = 0;  // begun after the warm-up; 0: as many as the time allows
};

/// One request that was begun after the warm-up.
struct Sample {
  double begin = 0;    // seconds since the end of the warm-up; of a rate: when it was due
  double latency = 0;  // seconds from begin to the answer: waiting for a free client included
  bool ok = false;
};

struct LoadResult {
  std::vector<Sample> samples;                 // in the order of answers
  std::map<std::string, std::int64_t> errors;  // how often each was answered
  std::int64_t wrong = 0;                      // answers that differ from what was expected
  std::int64_t unsent = 0;                     // due, but no client was free until the end
  double seconds = 0;                          // from the end of the warm-up to the last answer
};

/// Latencies of answered requests, ascending.
std::vector<double> latencies_of(const LoadResult& result);

/// The smallest value that at least the fraction of all do not exceed. @pre sorted, not empty; 0 < fraction
/// <= 1
double percentile(const std::vector<double>& sorted, double fraction);

/// Drives a server of the Milvus protocol. Requests take the queries in turn, nq consecutive rows each.
/// @param queries   at least nq x dim float32
/// @param expected  the answers to all queries, at least k wide; empty: answers are not looked at
/// @pre plan.nq, plan.k, plan.clients >= 1
/// @throws Error{unavailable} where a client can't connect at all
/// @par Cost  one thread; all requests are serialised before the first is sent
LoadResult run_load(const LoadPlan& plan, MatrixView<const float> queries,
                    const std::optional<TopK>& expected);

}  // namespace mpishards::bench

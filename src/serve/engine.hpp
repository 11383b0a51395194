#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/topk.hpp"

namespace mpishards::serve {

/// How long the steps of one batch took, for metrics and spans.
struct BatchRecord {
  std::string collection;
  std::int64_t requests = 0;
  std::int64_t queries = 0;
  std::int64_t k = 0;
  std::chrono::system_clock::time_point begin;
  double scatter_seconds = 0;             // routing, and the queries on their way to the ranks
  std::vector<double> search_seconds;     // by rank
  std::vector<std::string> search_hosts;  // by rank
  double merge_seconds = 0;               // on rank 0, waiting for the slowest rank included
  double total_seconds = 0;
};

/// What the batcher drives: the ranks' engine, or a test's own.
class Engine {
 public:
  virtual ~Engine() = default;
  /// @param slot     of the collection
  /// @param queries  nq x d float32
  /// @param[in,out] record  the engine fills in its seconds
  /// @return nq x k, best first, padded
  /// @throws Error, RequestError{collection_not_loaded}
  virtual TopK search(int slot, Matrix queries, std::int64_t k, BatchRecord& record) = 0;
};

}  // namespace mpishards::serve

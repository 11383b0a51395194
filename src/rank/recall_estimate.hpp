#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/topk.hpp"
#include "rank/search_engine.hpp"

namespace mpishards::rank {

/// What share of the true neighbors a search finds that looks into some lists only, measured on a sample of
/// its queries.
struct RecallEstimate {
  std::int64_t nprobe = 0;
  std::int64_t queries = 0;  // sampled; 0: nothing was measured
  double recall = 1;
  double low = 0;  // of the 95 % confidence interval
  double high = 1;
};

/// 95 % interval of a share that was `share` over n independent trials.
/// @pre n >= 1, 0 <= share <= 1
/// @par Source  E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927
std::pair<double, double> wilson_interval(double share, std::int64_t n);

/// For sampled queries: how many lists, nearest first, a search has to look into to meet each true neighbor.
class ProbeDepths {
 public:
  /// @param depths  one query's: a number from 1 on for each of its true neighbors, at least one
  void add(std::vector<std::int64_t> depths) { depths_.push_back(std::move(depths)); }
  std::int64_t queries() const { return std::ssize(depths_); }

  /// Mean over the queries of the share of neighbors that nprobe lists hold. The interval takes the queries
  /// for the independent trials, not their neighbors, which are found and missed together: it is rather too
  /// wide. @pre queries() >= 1
  RecallEstimate recall(std::int64_t nprobe) const;
  /// The fewest lists with which the mean is at least `wanted`. @pre queries() >= 1, wanted <= 1
  std::int64_t nprobe_for(double wanted) const;

 private:
  std::vector<std::vector<std::int64_t>> depths_;
};

/// Finds the true neighbors of some queries in lists that stream past, and how deep they lie. Every member is
/// collective over the engine's ranks.
class RecallSample {
 public:
  /// @param queries  float32, the same on every rank; at least one
  RecallSample(Matrix queries, std::int64_t k, Metric metric, const comm::Communicator& comm);

  /// Searches the rows that the engine holds. @pre their ids are their places in list order
  /// @par Cost  2 * queries * rows * d flops over the ranks
  void observe(SearchEngine& engine);

  /// On root the depths of every query, in order; elsewhere nothing.
  std::vector<std::vector<std::int64_t>> depths(SearchEngine& engine, const InvertedLists& lists) const;

 private:
  Matrix queries_;
  TopK nearest_;  // this rank's slice
  const comm::Communicator& comm_;
};

}  // namespace mpishards::rank

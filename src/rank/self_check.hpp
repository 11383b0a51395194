#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "io/results_writer.hpp"
#include "kernels/index.hpp"
#include "rank/inverted_lists.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Re-computes some queries of a pass in double by plain loops, beside the search, and compares the two at
/// the end. Uses no code of kernels or merge.
class SelfChecker {
 public:
  /// @param k  neighbors a query that will be compared
  SelfChecker(Metric metric, std::int64_t k, int threads) : metric_(metric), k_(k), threads_(threads) {}

  /// `count` different rows of [0, nq), ascending, drawn from a fixed seed: the same on every rank.
  static std::vector<std::int64_t> choose(std::int64_t nq, std::int64_t count);

  /// Starts a pass. @param queries  float32, one row for each of `result_rows`; the same on every rank
  /// @param selves  empty, or for each query the id that is no neighbor of it
  /// @param probes  lists that each query looks into; nprobe 0: all rows count
  void begin(Matrix queries, std::vector<std::int64_t> result_rows, std::vector<GlobalId> selves,
             ProbeTable probes);

  /// Takes in this rank's rows of one shard group.
  /// @param lists  that the rows belong to, where there are probes
  /// @par Cost  2 * sample * rows * d flops in double, spread over the threads
  void observe(TypedView base, kernels::RowIds ids, kernels::RowLists lists);

  /// Instead: takes in the rows that alone may be neighbors of one query, of whichever rank.
  /// @param result_row  one of those that begin() named; others are passed over
  void observe_candidates(std::int64_t result_row, TypedView rows, std::span<const GlobalId> ids);
  bool is_checked(std::int64_t result_row) const { return std::ranges::count(result_rows_, result_row) > 0; }

  /// Ends the pass: merges what all ranks saw, compares with what was written, adds to `total` on root.
  /// Collective over comm.
  void compare(const comm::Communicator& comm, const io::ResultSlices& written, SelfCheck& total);

 private:
  struct Entry {
    double distance;
    GlobalId id;
  };
  /// By the distance as it is written, then by id.
  bool before(const Entry& a, const Entry& b) const;
  void keep_best(std::vector<Entry>& entries) const;
  /// @param rows  the first of them is the row `first_row` of what ids name
  void observe_block(std::int64_t query, MatrixView<const float> rows, const kernels::RowIds& ids,
                     std::int64_t first_row);
  void observe_rows(std::span<const std::int64_t> queries, TypedView base, const kernels::RowIds& ids,
                    io::Range rows);
  void observe_lists(std::span<const std::int64_t> queries, TypedView base, const kernels::RowIds& ids,
                     const kernels::RowLists& lists);
  void compare_query(std::int64_t result_row, const std::vector<Entry>& truth, const TopK& found,
                     SelfCheck& total) const;

  Metric metric_;
  std::int64_t k_;
  int threads_;
  Matrix queries_;
  std::vector<std::int64_t> result_rows_;
  std::vector<GlobalId> selves_;
  ProbeTable probes_;
  std::vector<std::vector<Entry>> best_;  // of each sampled query, a few more than k
};

/// Lists that queries look into, by plain loops in double: what a ListProber has to find.
/// @par Cost  2 * nq * centroids * d flops, and sorting
ProbeTable plain_probes(Metric metric, const Matrix& centroids, MatrixView<const float> queries,
                        std::int64_t nprobe);

}  // namespace mpishards::rank

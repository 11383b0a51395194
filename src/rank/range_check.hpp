#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "io/csr_file.hpp"
#include "kernels/index.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Looks again, in double by plain loops, for the rows within a distance of some queries, beside the search,
/// and compares the two at the end. Uses no code of kernels.
class RangeChecker {
 public:
  RangeChecker(Metric metric, const RangeSearch& range, int threads)
      : metric_(metric), range_(range), threads_(threads) {}

  /// @param queries  float32, one row for each of `result_rows`; the same on every rank
  void begin(Matrix queries, std::vector<std::int64_t> result_rows);

  /// Takes in this rank's rows of one shard group.
  /// @par Cost  2 * sample * rows * d flops in double, spread over the threads
  void observe(TypedView base, kernels::RowIds ids);

  /// Compares what all ranks saw with what was written, adds to `total` on root. Collective over comm.
  void compare(const comm::Communicator& comm, const io::CsrSource& written, SelfCheck& total) const;

 private:
  struct Entry {
    double distance;
    GlobalId id;
  };
  bool is_asked_for(std::int64_t query, GlobalId id) const;
  /// Whether a rounded distance is within the limit.
  bool is_within(float distance) const;
  /// @param rows  the first of them is the row `first_row` of what ids name
  void observe_block(std::int64_t query, MatrixView<const float> rows, const kernels::RowIds& ids,
                     std::int64_t first_row);
  void compare_query(std::int64_t result_row, std::vector<Entry> truth, ConstNeighborRow found,
                     SelfCheck& total) const;

  Metric metric_;
  RangeSearch range_;
  int threads_;
  Matrix queries_;
  std::vector<std::int64_t> result_rows_;
  std::vector<std::vector<Entry>> seen_;  // of each sampled query, those one unit beyond the limit too
};

}  // namespace mpishards::rank

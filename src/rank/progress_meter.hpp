#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "rank/job_plan.hpp"
#include "rank/query_pass.hpp"

namespace mpishards::rank {

/// How far a run is.
struct Progress {
  std::string_view unit = "queries";  // what is counted
  std::int64_t queries_done = 0;      // weighted by the share of the base that they have seen
  std::int64_t queries_total = 0;
  std::int64_t groups_done = 0;
  std::int64_t groups_total = 0;
  double elapsed_seconds = 0;
  double queries_per_second = 0;  // of this run
  double eta_seconds = 0;         // NaN: not known yet
};

/// Measures a job in query x row pairs, those that earlier runs did included; speed and time left come from
/// this run's pairs alone. Pure arithmetic: the caller brings the clock.
class ProgressMeter {
 public:
  /// A job of nothing.
  ProgressMeter() = default;

  /// @param passes  what is left to do, as cut_passes gives it
  /// @param now_seconds  the clock as the search begins
  ProgressMeter(const JobShape& shape, const JobPlan& plan, std::span<const QueryPass> passes,
                double now_seconds);

  /// Before the first batch: what earlier runs left, and an unknown end.
  Progress at_begin(double now_seconds) const;

  /// After the first `batches_done` batches of a pass have seen a group; the groups before it are finished.
  Progress after_batches(const QueryPass& pass, io::Range group, std::size_t batches_done,
                         double now_seconds) const;

  /// All batches of a pass have seen a group.
  void finish_group(const QueryPass& pass, io::Range group);

 private:
  Progress progress(double pairs_done, double now_seconds) const;

  std::int64_t rows_ = 0;
  std::int64_t nq_ = 0;
  std::int64_t groups_ = 0;
  std::int64_t rows_per_group_ = 1;
  double began_seconds_ = 0;
  double pairs_inherited_ = 0;  // that earlier runs did
  double pairs_done_ = 0;       // those, and the finished groups of this run
};

}  // namespace mpishards::rank

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "io/journal.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::rank {

/// One stream of the base past some queries.
struct QueryPass {
  io::Range queries;               // result rows from the first to the last of them
  std::vector<io::Range> batches;  // result rows, in order, disjoint
  // Where a stopped run left it, else zeros: all queries have seen the base rows [0, rows_done), and the
  // batches that end by ahead_end have seen [0, ahead_rows).
  std::int64_t rows_done = 0;
  std::int64_t ahead_end = 0;
  std::int64_t ahead_rows = 0;

  bool is_continued() const { return rows_done > 0 || ahead_rows > 0; }
  std::int64_t nq() const;
  /// Result row of the position-th query of the pass. @pre 0 <= position < nq()
  std::int64_t result_row(std::int64_t position) const;
};

/// Cuts what is unfinished into passes and batches. A checkpointed pass comes first. Pure arithmetic.
/// @param unfinished  sorted, disjoint result rows
std::vector<QueryPass> cut_passes(const JobPlan& plan, const std::vector<io::Range>& unfinished,
                                  const std::optional<io::Journal::Checkpoint>& checkpoint);

/// Row ranges of the base, relative to the job's first row, that a pass still has to stream. Pure arithmetic.
std::vector<io::Range> cut_groups(const JobPlan& plan, std::int64_t rows, const QueryPass& pass);

}  // namespace mpishards::rank

#include "rank/progress_meter.hpp"

#include <algorithm>
#include <limits>

namespace mpishards::rank {

namespace {

double pairs(std::int64_t queries, std::int64_t rows) {
  return static_cast<double>(queries) * static_cast<double>(rows);
}

/// Rows of a group that a batch had seen before this run.
std::int64_t rows_seen_before(const QueryPass& pass, io::Range batch, io::Range group) {
  const std::int64_t seen = batch.end <= pass.ahead_end ? pass.ahead_rows : pass.rows_done;
  return std::clamp(seen, group.begin, group.end) - group.begin;
}

/// Pairs that this run adds when the first batches of a pass see a group.
double new_pairs(const QueryPass& pass, io::Range group, std::size_t batches) {
  double sum = 0;
  for (std::size_t b = 0; b < batches; ++b) {
    const io::Range batch = pass.batches[b];
    sum += pairs(batch.end - batch.begin, group.end - group.begin - rows_seen_before(pass, batch, group));
  }
  return sum;
}

}  // namespace

ProgressMeter::ProgressMeter(const JobShape& shape, const JobPlan& plan, std::span<const QueryPass> passes,
                             double now_seconds)
    : rows_(shape.rows),
      nq_(shape.nq),
      groups_(plan.groups),
      rows_per_group_(std::max<std::int64_t>(1, plan.rows_per_group)),
      began_seconds_(now_seconds) {
  double left = 0;
  for (const QueryPass& pass : passes) left += new_pairs(pass, {0, rows_}, pass.batches.size());
  pairs_inherited_ = pairs(nq_, rows_) - left;
  pairs_done_ = pairs_inherited_;
}

Progress ProgressMeter::at_begin(double now_seconds) const {
  return progress(pairs_inherited_, now_seconds);
}

Progress ProgressMeter::after_batches(const QueryPass& pass, io::Range group, std::size_t batches_done,
                                      double now_seconds) const {
  Progress result = progress(pairs_done_ + new_pairs(pass, group, batches_done), now_seconds);
  result.groups_done = (group.begin + rows_per_group_ - 1) / rows_per_group_;
  return result;
}

void ProgressMeter::finish_group(const QueryPass& pass, io::Range group) {
  pairs_done_ += new_pairs(pass, group, pass.batches.size());
}

Progress ProgressMeter::progress(double pairs_done, double now_seconds) const {
  const double seconds = now_seconds - began_seconds_;
  const double own = pairs_done - pairs_inherited_;
  const double rows = static_cast<double>(std::max<std::int64_t>(1, rows_));
  Progress result;
  result.queries_total = nq_;
  result.queries_done = static_cast<std::int64_t>(pairs_done / rows);
  result.groups_total = groups_;
  result.elapsed_seconds = now_seconds;
  result.queries_per_second = seconds > 0 ? own / rows / seconds : 0;
  result.eta_seconds =
      own > 0 ? seconds * (pairs(nq_, rows_) - pairs_done) / own : std::numeric_limits<double>::quiet_NaN();
  return result;
}

}  // namespace mpishards::rank

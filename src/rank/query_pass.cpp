#include "rank/query_pass.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace mpishards::rank {

namespace {

std::vector<io::Range> intersect(const std::vector<io::Range>& ranges, io::Range with) {
  std::vector<io::Range> result;
  for (const io::Range& range : ranges) {
    const io::Range common{std::max(range.begin, with.begin), std::min(range.end, with.end)};
    if (common.begin < common.end) result.push_back(common);
  }
  return result;
}

std::vector<io::Range> subtract(const std::vector<io::Range>& ranges, io::Range without) {
  std::vector<io::Range> result;
  for (const io::Range& range : ranges) {
    const io::Range before{range.begin, std::min(range.end, without.begin)};
    const io::Range behind{std::max(range.begin, without.end), range.end};
    if (before.begin < before.end) result.push_back(before);
    if (behind.begin < behind.end) result.push_back(behind);
  }
  return result;
}

/// Cuts ranges into batches of at most `batch` rows; one also ends at `boundary`.
std::vector<io::Range> cut_batches(const std::vector<io::Range>& ranges, std::int64_t batch,
                                   std::int64_t boundary) {
  std::vector<io::Range> batches;
  for (const io::Range& range : ranges)
    for (std::int64_t begin = range.begin; begin < range.end;) {
      std::int64_t end = std::min(range.end, begin + batch);
      if (begin < boundary && boundary < end) end = boundary;
      batches.push_back({begin, end});
      begin = end;
    }
  return batches;
}

/// Takes at most `count` rows from the front of the ranges.
std::vector<io::Range> take_front(std::vector<io::Range>& ranges, std::int64_t count) {
  std::vector<io::Range> taken;
  while (count > 0 && !ranges.empty()) {
    io::Range& first = ranges.front();
    const std::int64_t end = std::min(first.end, first.begin + count);
    count -= end - first.begin;
    taken.push_back({first.begin, end});
    first.begin = end;
    if (first.begin == first.end) ranges.erase(ranges.begin());
  }
  return taken;
}

}  // namespace

std::int64_t QueryPass::nq() const {
  std::int64_t sum = 0;
  for (const io::Range& batch : batches) sum += batch.end - batch.begin;
  return sum;
}

std::int64_t QueryPass::result_row(std::int64_t position) const {
  for (const io::Range& batch : batches) {
    if (position < batch.end - batch.begin) return batch.begin + position;
    position -= batch.end - batch.begin;
  }
  throw Error(ErrorKind::internal, "a pass has fewer queries than were asked for");
}

std::vector<QueryPass> cut_passes(const JobPlan& plan, const std::vector<io::Range>& unfinished,
                                  const std::optional<io::Journal::Checkpoint>& checkpoint) {
  std::vector<QueryPass> passes;
  std::vector<io::Range> rest = unfinished;
  if (checkpoint) {
    const std::vector<io::Range> continued = intersect(unfinished, checkpoint->queries);
    if (!continued.empty())
      passes.push_back({.queries = checkpoint->queries,
                        .batches = cut_batches(continued, plan.batch, checkpoint->ahead_end),
                        .rows_done = checkpoint->rows_done,
                        .ahead_end = checkpoint->ahead_end,
                        .ahead_rows = checkpoint->ahead_rows});
    rest = subtract(unfinished, checkpoint->queries);
  }
  while (!rest.empty()) {
    const std::vector<io::Range> taken = take_front(rest, std::max<std::int64_t>(plan.queries_per_pass, 1));
    QueryPass pass;
    pass.queries = {taken.front().begin, taken.back().end};
    pass.batches = cut_batches(taken, plan.batch, 0);
    passes.push_back(std::move(pass));
  }
  return passes;
}

std::vector<io::Range> cut_groups(const JobPlan& plan, std::int64_t rows, const QueryPass& pass) {
  std::vector<io::Range> groups;
  for (std::int64_t begin = pass.rows_done; begin < rows;) {
    std::int64_t end = std::min(rows, begin + plan.rows_per_group);
    if (begin < pass.ahead_rows && pass.ahead_rows < end) end = pass.ahead_rows;
    groups.push_back({begin, end});
    begin = end;
  }
  return groups;
}

}  // namespace mpishards::rank

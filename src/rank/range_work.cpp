#include "rank/range_work.hpp"

#include <algorithm>

namespace mpishards::rank {

namespace {

/// Queries that have met the rows [0, rows_done).
struct Front {
  io::Range queries;
  std::int64_t rows_done = 0;
};

std::vector<Front> fronts_of(std::int64_t nq, const std::vector<io::Journal::Block>& blocks) {
  std::vector<std::int64_t> cuts = {0, nq};
  for (const io::Journal::Block& block : blocks) {
    cuts.push_back(block.queries.begin);
    cuts.push_back(block.queries.end);
  }
  std::ranges::sort(cuts);
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<Front> fronts;
  for (std::size_t c = 0; c + 1 < cuts.size(); ++c) fronts.push_back({{cuts[c], cuts[c + 1]}, 0});
  for (const io::Journal::Block& block : blocks) {
    auto front = std::ranges::lower_bound(fronts, block.queries.begin, {},
                                          [](const Front& f) { return f.queries.begin; });
    for (; front != fronts.end() && front->queries.begin < block.queries.end; ++front)
      front->rows_done = std::max(front->rows_done, block.rows.end);
  }
  return fronts;
}

void append(std::vector<io::Range>& ranges, io::Range range) {
  if (range.begin >= range.end) return;
  if (!ranges.empty() && ranges.back().end == range.begin)
    ranges.back().end = range.end;
  else
    ranges.push_back(range);
}

}  // namespace

std::vector<RangeGroup> cut_range_work(std::int64_t rows, std::int64_t rows_per_group, std::int64_t nq,
                                       kernels::RangePairs pairs,
                                       const std::vector<io::Journal::Block>& blocks) {
  std::vector<Front> fronts = fronts_of(nq, blocks);
  std::vector<RangeGroup> groups;
  for (std::int64_t begin = 0; begin < rows;) {
    std::int64_t least = rows;
    for (const Front& front : fronts) least = std::min(least, front.rows_done);
    begin = least;
    if (begin == rows) break;
    std::int64_t end = std::min(rows, begin + rows_per_group);
    for (const Front& front : fronts)
      if (front.rows_done > begin) end = std::min(end, front.rows_done);
    RangeGroup group{{begin, end}, {}};
    for (Front& front : fronts) {
      if (front.rows_done != begin) continue;
      front.rows_done = end;
      // The last row of a group is later than all that the group concerns.
      const std::int64_t last =
          pairs == kernels::RangePairs::later ? std::min(front.queries.end, end - 1) : front.queries.end;
      append(group.queries, {front.queries.begin, last});
    }
    if (!group.queries.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace mpishards::rank

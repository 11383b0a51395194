#pragma once

#include <cstdint>
#include <vector>

#include "io/journal.hpp"
#include "kernels/index.hpp"

namespace mpishards::rank {

/// A group of base rows and the queries that have not met it.
struct RangeGroup {
  io::Range rows;
  std::vector<io::Range> queries;  // in order, disjoint, none empty
};

/// What is left of nq queries against `rows` rows after some blocks, however those were cut: every query
/// meets every row once, groups in order. With RangePairs::later queries that a group can't concern are left
/// out.
/// @param blocks  of every query without a gap from row 0 on @pre rows_per_group >= 1
std::vector<RangeGroup> cut_range_work(std::int64_t rows, std::int64_t rows_per_group, std::int64_t nq,
                                       kernels::RangePairs pairs,
                                       const std::vector<io::Journal::Block>& blocks);

}  // namespace mpishards::rank

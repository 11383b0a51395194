#pragma once

#include <memory>
#include <vector>

#include "merge/merge_strategy.hpp"

namespace mpishards::merge {

/// Makers of the registry's rows; each strategy lives in the file of its name.
std::unique_ptr<MergeStrategy> make_all_to_all_merge();
std::unique_ptr<MergeStrategy> make_halving_merge();
std::unique_ptr<MergeStrategy> make_reduce_merge();
std::unique_ptr<MergeStrategy> make_gather_merge();
std::unique_ptr<MergeStrategy> make_two_level_merge();
/// The same for hosts that are given: tests have one.
/// @param host_of_rank  empty: as MPI says; else one a rank, numbered from 0 on without gaps
std::unique_ptr<MergeStrategy> make_two_level_merge(std::vector<int> host_of_rank);

}  // namespace mpishards::merge

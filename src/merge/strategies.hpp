#pragma once

#include <memory>

#include "merge/merge_strategy.hpp"

namespace mpishards::merge {

/// Makers of the registry's rows; each strategy lives in the file of its name.
std::unique_ptr<MergeStrategy> make_all_to_all_merge();
std::unique_ptr<MergeStrategy> make_halving_merge();
std::unique_ptr<MergeStrategy> make_reduce_merge();
std::unique_ptr<MergeStrategy> make_gather_merge();

}  // namespace mpishards::merge

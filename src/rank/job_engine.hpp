#pragma once

#include <string>

#include "rank/job_inputs.hpp"
#include "rank/job_plan.hpp"
#include "rank/search_engine.hpp"

namespace mpishards::rank {

/// The engine that searches a job's inputs: "auto" is decided.
/// @throws Error{unavailable} where the one that was asked for can't search them
std::string engine_of(const SearchJobConfig& config, const JobInputs& inputs);

/// How the ranks of a job search its base: what the configuration leaves open, "auto", is decided here. Not
/// collective.
/// @param inputs  must outlive the engine that is made of it
/// @param plan    of this shape
SearchEngineConfig engine_config(const SearchJobConfig& config, const JobInputs& inputs,
                                 const JobShape& shape, const JobPlan& plan);

}  // namespace mpishards::rank

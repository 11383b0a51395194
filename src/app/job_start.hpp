#pragma once

#include <functional>
#include <optional>
#include <string>

#include "app/cli.hpp"
#include "app/options.hpp"
#include "comm/communicator.hpp"

namespace mpishards::app {

/// Runs `step` on rank 0 and gives its text to all ranks, or its failure. Collective over world.
///
/// Unlike comm::agree the failure's text names no rank: what rank 0 decides is the whole job's business.
/// @throws comm::AgreedError
std::string decide_on_root(const comm::Communicator& world, const std::function<std::string()>& step);

/// The classic disaster: a launcher starts N processes and each believes to be alone.
/// @throws Error{config} where this process is such a copy
void refuse_copies(const comm::Communicator& world);

/// What is said about a job, by who says it.
struct SettingSources {
  Settings flags;
  Settings environment;
  Settings job_file;
};

/// Reads flags, environment and the --job file, which are still to be combined; empty if --help was asked
/// for.
/// @throws Error{usage|config|input_missing}
std::optional<SettingSources> read_settings(Cli& cli, const Arguments& arguments,
                                            const comm::Communicator& world, OptionTable table);

}  // namespace mpishards::app

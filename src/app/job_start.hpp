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

/// What flags, environment and the --job file say together; empty if --help was asked for.
/// @throws Error{usage|config|input_missing}
std::optional<Settings> read_settings(Cli& cli, const Arguments& arguments, const comm::Communicator& world,
                                      OptionTable table = search_options());

}  // namespace mpishards::app

#pragma once

#include <string>

#include "app/command.hpp"
#include "app/options.hpp"

namespace mpishards::app {

/// A subcommand that runs one batch job.
struct BatchCommand {
  BatchKind kind;
  std::string usage;
  std::string description;
  std::string example;
};

/// From the command line to a published result, reports and the exit code. Collective over world.
/// @throws Error, the same on every rank
int run_batch_command(const BatchCommand& command, const Arguments& arguments,
                      const comm::Communicator& world);

}  // namespace mpishards::app

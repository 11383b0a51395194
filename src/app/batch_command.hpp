#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

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

/// What the command line, job file and environment ask for; nothing if that was --help. Collective over
/// world.
/// @throws Error, the same on every rank
std::optional<BatchOptions> read_batch_options(const BatchCommand& command, const Arguments& arguments,
                                               const comm::Communicator& world);

/// What is said of any batch job: before it, as it goes on, when it was stopped.
void print_plan(const std::string& plan, const std::vector<std::string>& warnings, std::FILE* stream);
void say_resumed(const BatchOptions& options, const std::string& resumed);
void say_stopped(const BatchOptions& options);

/// From the command line to a published result, reports and the exit code. Collective over world.
/// @throws Error, the same on every rank
int run_batch_command(const BatchCommand& command, const Arguments& arguments,
                      const comm::Communicator& world);

}  // namespace mpishards::app

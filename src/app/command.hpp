#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.hpp"

namespace mpishards::app {

/// What follows the subcommand's name on the command line.
using Arguments = std::vector<std::string>;

/// A subcommand. `run` returns the exit code or throws Error.
struct CommandRow {
  std::string_view name;
  std::string_view help;
  bool needs_mpi;  // main starts MPI before `run`; otherwise `world` is an empty communicator of one rank
  int (*run)(const Arguments& arguments, const comm::Communicator& world);
};
std::span<const CommandRow> command_registry();

}  // namespace mpishards::app

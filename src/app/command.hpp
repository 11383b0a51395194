#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace mpishards::app {

/// What follows the subcommand's name on the command line.
using Arguments = std::vector<std::string>;

/// What a launcher such as mpirun makes of a subcommand.
enum class Processes : std::uint8_t {
  job,  // all its ranks work together: main starts MPI before `run`
  one,  // one works, copies end at once; `world` is an empty communicator of one rank
};

/// A subcommand. `run` returns the exit code or throws Error.
struct CommandRow {
  std::string_view name;
  std::string_view help;
  Processes processes;
  int (*run)(const Arguments& arguments, const comm::Communicator& world);
};
std::span<const CommandRow> command_registry();

/// Prints one line of cause and remedy on stderr.
void print_failure(const Error& error);

}  // namespace mpishards::app

#include "app/command.hpp"

#include "app/commands/commands.hpp"

namespace mpishards::app {

namespace {

constexpr CommandRow kCommands[] = {
    {"search", "exact nearest neighbours of all queries, on all ranks", true, run_search},
    {"version", "version, revision and build type", false, run_version},
};

}  // namespace

std::span<const CommandRow> command_registry() {
  return kCommands;
}

}  // namespace mpishards::app

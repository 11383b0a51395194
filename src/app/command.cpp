#include "app/command.hpp"

#include "app/commands/commands.hpp"

namespace mpishards::app {

namespace {

constexpr CommandRow kCommands[] = {
    {"search", "exact nearest neighbours of all queries, on all ranks", true, run_search},
    {"eval", "recall and distances of a result against truth, or against fp64", false, run_eval},
    {"merge", "results of an array job joined to one", false, run_merge},
    {"info", "what is in vector files and results", false, run_info},
    {"convert", "vectors from one format, dtype or range to another", false, run_convert},
    {"plan", "memory, ranks, time and disk space of a search", false, run_plan},
    {"doctor", "whether this machine and this start will work", true, run_doctor},
    {"bench", "kernels and merges by shape, one row each", true, run_bench},
    {"version", "version, revision and build type", false, run_version},
};

}  // namespace

std::span<const CommandRow> command_registry() {
  return kCommands;
}

}  // namespace mpishards::app

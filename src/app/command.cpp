#include "app/command.hpp"

#include <cstdio>

#include "app/commands/commands.hpp"

namespace mpishards::app {

namespace {

constexpr CommandRow kCommands[] = {
    {"search", "exact nearest neighbours of all queries, on all ranks", Processes::job, run_search},
    {"graph", "the k nearest other rows of every row of a base, as a sparse matrix", Processes::job,
     run_graph},
    {"range", "all base rows within a distance of every query, as a sparse matrix", Processes::job,
     run_range},
    {"join", "all pairs of rows of a base within a distance, as a sparse matrix", Processes::job, run_join},
    {"build", "an index of a base, in a folder that searches and servers load", Processes::job, run_build},
    {"serve", "answers Milvus clients from collections in the memory of all ranks", Processes::job,
     run_serve},
    {"ping", "whether a server is ready", Processes::one, run_ping},
    {"query", "vectors of a file to a server, its answers to a result file", Processes::one, run_query},
    {"eval", "recall and distances of a result against truth, or against fp64", Processes::one, run_eval},
    {"merge", "results of an array job joined to one", Processes::one, run_merge},
    {"info", "what is in vector files and results", Processes::one, run_info},
    {"convert", "vectors from one format, dtype or range to another", Processes::one, run_convert},
    {"plan", "memory, ranks, time and disk space of a search", Processes::one, run_plan},
    {"doctor", "whether this machine and this start will work", Processes::job, run_doctor},
    {"bench", "kernels and merges by shape, one row each", Processes::job, run_bench},
    {"version", "version, revision and build type", Processes::one, run_version},
};

}  // namespace

std::span<const CommandRow> command_registry() {
  return kCommands;
}

void print_failure(const Error& error) {
  std::fprintf(stderr, "mpishards: %s: %s\n", std::string(to_string(error.kind())).c_str(), error.what());
}

}  // namespace mpishards::app

#include "comm/environment.hpp"

#include <mpi.h>
#include <unistd.h>
#if defined(OPEN_MPI) && __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include "comm/check.hpp"
#include "core/error.hpp"

namespace mpishards::comm {

namespace {

std::optional<int> int_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return std::atoi(text);
}

struct LauncherRow {
  const char* name;
  const char* rank;
  const char* n_ranks;
  const char* local_rank;
};

// In this order: mpirun inside a Slurm job leaves both sets, and its own is the one that counts.
constexpr LauncherRow kLaunchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"},
    {"mpiexec (PMI)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {"PMIx", "PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK"},
};

/// Whether the process that started this one has a variable too. What another user's process has (slurmstepd
/// is root's) can't be seen: no.
bool parent_has(const std::string& variable) {
  std::ifstream environment("/proc/" + std::to_string(::getppid()) + "/environ", std::ios::binary);
  for (std::string entry; std::getline(environment, entry, '\0');)
    if (entry.starts_with(variable + "=")) return true;
  return false;
}

}  // namespace

Launcher detect_launcher() {
  for (const LauncherRow& row : kLaunchers) {
    const std::optional<int> rank = int_from_environment(row.rank);
    const std::optional<int> n_ranks = int_from_environment(row.n_ranks);
    if (!rank || !n_ranks) continue;
    return {row.name, *n_ranks, *rank, int_from_environment(row.local_rank).value_or(0),
            !parent_has(row.rank)};
  }
  return {"none", 1, 0, 0, false};
}

void check_mpi(int code, const char* call, std::source_location at) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(ErrorKind::mpi, std::string(call) + " failed: " + text, at);
}

Environment::Environment(int& argc, char**& argv) {
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_FUNNELED)
    throw Error(ErrorKind::mpi, "MPI grants no thread support (MPI_THREAD_FUNNELED is needed)");
}

Environment::~Environment() {
  MPI_Finalize();
}

std::string Environment::thread_level() {
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  switch (provided) {
    case MPI_THREAD_FUNNELED:
      return "funneled";
    case MPI_THREAD_SERIALIZED:
      return "serialized";
    case MPI_THREAD_MULTIPLE:
      return "multiple";
    default:
      return "single";
  }
}

std::string Environment::library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string all(text);
  return all.substr(0, all.find('\n'));
}

std::string Environment::cuda_awareness() {
#ifdef MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() != 0 ? "yes" : "no";
#else
  return "unknown";
#endif
}

void abort_job(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace mpishards::comm

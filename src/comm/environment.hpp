#pragma once

#include <string>

namespace mpishards::comm {

/// Which program started this process, read from the environment variables that it leaves.
struct Launcher {
  std::string name;        // "srun", "mpirun", "mpiexec (PMI)" or "none"
  int n_ranks = 1;         // how many processes the launcher says it started
  int rank = 0;            // this one's number among them
  int local_rank = 0;      // and among those on this host
  bool is_parent = false;  // it started this process itself, not a script that it started
};
Launcher detect_launcher();

/// Owns MPI_Init_thread (FUNNELED) and MPI_Finalize. Sets MPI_ERRORS_RETURN on WORLD and SELF.
class Environment {
 public:
  /// @throws Error{mpi} if MPI does not start or grants less than MPI_THREAD_FUNNELED
  Environment(int& argc, char**& argv);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  /// "single", "funneled", "serialized" or "multiple"
  static std::string thread_level();
  /// First line of what the library says of itself, e.g. "Open MPI v4.1.4, ..."
  static std::string library_version();
  /// Whether MPI takes GPU pointers: "yes", "no", or "unknown" where the library has no way to tell.
  static std::string cuda_awareness();
};

/// Ends every process of the job at once; for failures that could not be agreed upon.
[[noreturn]] void abort_job(int exit_code);

}  // namespace mpishards::comm

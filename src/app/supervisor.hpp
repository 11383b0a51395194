#pragma once

#include "app/command.hpp"

namespace mpishards::app {

/// Whether `serve` is asked to run under a supervisor: --supervise N, or --supervise=N.
bool wants_supervisor(const Arguments& arguments);

/// Starts `mpirun -n N PROGRAM serve ...` and starts it again whenever it dies, after a pause that grows from
/// 1 to 30 s while it dies soon. Failures that a restart can't mend (exit codes 64 to 66, 73, 77 and 78) end
/// it. SIGTERM, SIGINT and SIGUSR1 drain the server and end; SIGHUP and SIGUSR2 are handed on. Must run
/// before MPI starts.
/// @return exit code of the last server @throws Error{usage} for a bad N; Error{os}
int supervise(const Arguments& arguments);

}  // namespace mpishards::app

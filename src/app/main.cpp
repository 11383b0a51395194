#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "app/cli.hpp"
#include "app/command.hpp"
#include "app/eval_curve.hpp"
#include "app/supervisor.hpp"
#include "comm/agree.hpp"
#include "comm/communicator.hpp"
#include "comm/environment.hpp"
#include "core/error.hpp"
#include "core/version.hpp"
#include "kernels/blas_info.hpp"

namespace {

using namespace mpishards;

void print_usage(std::FILE* stream) {
  std::fprintf(
      stream,
      "mpishards %s: exact nearest-neighbour search for MPI clusters\n\nUsage: mpishards COMMAND ...\n\n",
      std::string(version()).c_str());
  for (const app::CommandRow& row : app::command_registry())
    std::fprintf(stream, "  %-9s %s\n", std::string(row.name).c_str(), std::string(row.help).c_str());
  std::fputs("\nmpishards COMMAND --help, or mpishards help COMMAND, describes one command.\n", stream);
}

const app::CommandRow& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const app::CommandRow& row : app::command_registry()) {
    if (row.name == name) return row;
    names.emplace_back(row.name);
  }
  const std::string meant = app::nearest(name, names);
  throw Error(ErrorKind::usage, "unknown command '" + name + "'" +
                                    (meant.empty() ? "" : "; did you mean " + meant + "?") +
                                    " (mpishards --help lists the commands)");
}

/// Whether a launcher started this process beside another that does the same work. The one that does it says
/// so. Ranks of a script that runs commands of its own are none.
bool is_idle_copy(const app::CommandRow& command) {
  const comm::Launcher launcher = comm::detect_launcher();
  if (launcher.n_ranks == 1 || !launcher.is_parent) return false;
  if (launcher.rank > 0) return true;
  const std::string name(command.name);
  std::fprintf(
      stderr,
      "mpishards: warning: %s started %d times `mpishards %s`, which is the work of one process: the "
      "first does it, the others do nothing; start it without %s\n",
      launcher.name.c_str(), launcher.n_ranks, name.c_str(), launcher.name.c_str());
  return false;
}

int run_alone(const app::CommandRow& command, const app::Arguments& arguments) {
  if (is_idle_copy(command)) return 0;
  try {
    return command.run(arguments, comm::Communicator());
  } catch (const Error& error) {
    app::print_failure(error);
    return exit_code(error.kind());
  }
}

/// Failures that one rank alone knows of leave the others inside a collective: the whole job ends.
int run_under_mpi(const app::CommandRow& command, const app::Arguments& arguments, int& argc, char**& argv) {
  const comm::Environment environment(argc, argv);
  const comm::Communicator world = comm::Communicator::world();
  try {
    return command.run(arguments, world);
  } catch (const comm::AgreedError& error) {
    // Failures that all ranks agreed upon are printed by rank 0 alone.
    if (world.is_root()) app::print_failure(error);
    return exit_code(error.kind());
  } catch (const Error& error) {
    app::print_failure(error);
    if (world.size() == 1) return exit_code(error.kind());
    comm::abort_job(exit_code(error.kind()));
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "mpishards: rank %d: out of memory; lower --memory or use more ranks\n",
                 world.rank());
    comm::abort_job(exit_code(ErrorKind::os));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpishards: rank %d: internal error: %s\n", world.rank(), error.what());
    comm::abort_job(exit_code(ErrorKind::internal));
  }
}

}  // namespace

int main(int argc, char** argv) {
  kernels::keep_blas_in_calling_thread();
  const std::vector<std::string> all(argv + 1, argv + argc);
  const bool asks_for_help = !all.empty() && (all[0] == "--help" || all[0] == "-h" || all[0] == "help");
  const bool of_command = asks_for_help && all[0] == "help" && all.size() > 1;  // mpishards help search
  if (all.empty() || (asks_for_help && !of_command)) {
    print_usage(all.empty() ? stderr : stdout);
    return all.empty() ? exit_code(ErrorKind::usage) : 0;
  }
  try {
    const std::string typed = of_command ? all[1] : all[0];
    const app::CommandRow& command = find_command(typed == "--version" ? "version" : typed);
    const app::Arguments arguments =
        of_command ? app::Arguments{"--help"} : app::Arguments(all.begin() + 1, all.end());
    if (command.name == "serve" && app::wants_supervisor(arguments)) return app::supervise(arguments);
    const bool is_sweep = command.name == "eval" && app::wants_curve(arguments);
    if (command.processes == app::Processes::job || is_sweep)
      return run_under_mpi(command, arguments, argc, argv);
    return run_alone(command, arguments);
  } catch (const Error& error) {
    app::print_failure(error);
    return exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    std::fputs("mpishards: out of memory\n", stderr);
    return exit_code(ErrorKind::os);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpishards: internal error: %s\n", error.what());
    return exit_code(ErrorKind::internal);
  }
}

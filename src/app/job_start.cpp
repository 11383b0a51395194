#include "app/job_start.hpp"

#include <cstdlib>

#include "app/job_file.hpp"
#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "core/error.hpp"

namespace mpishards::app {

std::string decide_on_root(const comm::Communicator& world, const std::function<std::string()>& step) {
  std::string text;
  bool failed = false;
  ErrorKind kind = ErrorKind::internal;
  if (world.is_root()) {
    try {
      text = step();
    } catch (const Error& error) {
      failed = true;
      kind = error.kind();
      text = error.what();
    }
  }
  if (world.size() > 1) {
    world.broadcast(failed);
    world.broadcast(kind);
    world.broadcast_text(text);
  }
  if (failed) throw comm::AgreedError(kind, text);
  return text;
}

void refuse_copies(const comm::Communicator& world) {
  const comm::Launcher launcher = comm::detect_launcher();
  if (world.size() == 1 && launcher.n_ranks > 1)
    throw Error(ErrorKind::config,
                launcher.name + " started " + std::to_string(launcher.n_ranks) +
                    " processes, but MPI joined none of them: these would be copies of one job; "
                    "use the mpirun of this program's MPI, or srun --mpi=pmix (srun --mpi=list "
                    "shows what there is)");
}

std::optional<SettingSources> read_settings(Cli& cli, const Arguments& arguments,
                                            const comm::Communicator& world, OptionTable table) {
  const auto parsed = cli.parse(arguments, world);
  if (!parsed) return std::nullopt;
  SettingSources said{flag_settings(*parsed, table),
                      environment_settings([](const char* name) { return std::getenv(name); }, table),
                      {}};
  std::string job = text_or_empty(said.flags, "job");
  if (job.empty()) job = text_or_empty(said.environment, "job");
  if (!job.empty()) said.job_file = read_job_file(job, table);
  return said;
}

}  // namespace mpishards::app

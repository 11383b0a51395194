#include "app/batch_command.hpp"
#include "app/commands/commands.hpp"

namespace mpishards::app {

int run_search(const Arguments& arguments, const comm::Communicator& world) {
  const BatchCommand command = {
      .kind = BatchKind::search,
      .usage = "--base FILE... --queries FILE -o FILE [options]",
      .description =
          "Finds the k nearest base vectors of every query on all ranks of an MPI job: exactly, or, where "
          "the\n"
          "base is an index directory of mpishards build, exactly inside the lists that a query looks into.\n"
          "Every option is also a key of the --job file (TOML) and an environment variable\n"
          "(MPISHARDS_QUERIES_RANGE for --queries-range); flags win over the environment, that over the "
          "file.",
      .example =
          "mpirun -n 4 mpishards search --base emb.h5:/train --queries q.h5:/test -k 100 --metric l2 -o "
          "result.h5\n"
          "  srun --mpi=pmix mpishards search --job jobs/fashion_mnist.toml --memory 8GiB"};
  return run_batch_command(command, arguments, world);
}

}  // namespace mpishards::app

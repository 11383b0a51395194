#include "app/batch_command.hpp"
#include "app/commands/commands.hpp"

namespace mpishards::app {

int run_range(const Arguments& arguments, const comm::Communicator& world) {
  const BatchCommand command = {
      .kind = BatchKind::range,
      .usage = "--base FILE... --queries FILE --eps E -o FILE.h5 [options]",
      .description =
          "Finds all base vectors within a distance of every query, exactly, on all ranks of an MPI job, "
          "and\n"
          "writes them as a sparse matrix (CSR: indptr, indices, data), each row nearest first. Stopped or\n"
          "killed, the same line continues. Options are also keys of the --job file (TOML) and environment\n"
          "variables, as for mpishards search.",
      .example =
          "mpirun -n 4 mpishards range --base emb.h5:/train --queries q.h5:/test --metric cosine --eps "
          "0.9 -o near.h5"};
  return run_batch_command(command, arguments, world);
}

}  // namespace mpishards::app

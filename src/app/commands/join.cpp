#include "app/batch_command.hpp"
#include "app/commands/commands.hpp"

namespace mpishards::app {

int run_join(const Arguments& arguments, const comm::Communicator& world) {
  const BatchCommand command = {
      .kind = BatchKind::join,
      .usage = "--base FILE... --eps E -o FILE.h5 [options]",
      .description =
          "Finds all pairs of rows of a base within a distance, exactly, on all ranks of an MPI job, and "
          "writes\n"
          "them as a sparse matrix (CSR: indptr, indices, data) of row numbers and distances: row i holds "
          "the\n"
          "j > i, or with --symmetric all others. --clusters adds the connected components of the pairs, "
          "and\n"
          "which rows to keep where duplicates are removed. Stopped or killed, the same line continues.\n"
          "Options are also keys of the --job file (TOML) and environment variables, as for mpishards "
          "search.",
      .example = "mpirun -n 4 mpishards join --base emb.h5:/train --metric cosine --eps 0.95 -o pairs.h5"};
  return run_batch_command(command, arguments, world);
}

}  // namespace mpishards::app

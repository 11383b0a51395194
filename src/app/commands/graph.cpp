#include "app/batch_command.hpp"
#include "app/commands/commands.hpp"

namespace mpishards::app {

int run_graph(const Arguments& arguments, const comm::Communicator& world) {
  const BatchCommand command = {
      .kind = BatchKind::graph,
      .usage = "--base FILE... -k K -o FILE.h5 [options]",
      .description =
          "Finds the k nearest other rows of every row of the base, exactly, on all ranks of an MPI job, "
          "and\n"
          "writes them as a sparse matrix (CSR: indptr, indices, data) of row numbers and distances. Stopped "
          "or\n"
          "killed, the same line continues. Options are also keys of the --job file (TOML) and environment\n"
          "variables, as for mpishards search.",
      .example = "mpirun -n 4 mpishards graph --base emb.h5:/train -k 15 --metric cosine -o graph.h5"};
  return run_batch_command(command, arguments, world);
}

}  // namespace mpishards::app

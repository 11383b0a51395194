#include "rank/distribute.hpp"

#include <mpi.h>

#include <cstring>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"

namespace mpishards::rank {

namespace {

struct BatchHeader {
  std::int64_t batch_nq = 0;
  std::int64_t all = 1;
};

/// Counts and offsets in rows, for MPI_Scatterv; filled on root alone.
struct ScatterCounts {
  std::vector<int> counts;
  std::vector<int> offsets;
};

ScatterCounts scatter_counts(const Routing& routing) {
  ScatterCounts result;
  std::int64_t total = 0;
  for (const std::vector<std::int64_t>& positions : routing.by_rank) {
    result.counts.push_back(narrow<int>(positions.size()));
    result.offsets.push_back(narrow<int>(total));
    total += static_cast<std::int64_t>(positions.size());
  }
  return result;
}

void scatter_routed(const comm::Communicator& comm, const Matrix& batch, const Routing& routing,
                    std::int64_t d, RoutedBatch& routed) {
  const ScatterCounts counts = scatter_counts(routing);
  int mine = 0;
  comm::check_mpi(MPI_Scatter(counts.counts.data(), 1, MPI_INT, &mine, 1, MPI_INT, 0, comm.get()),
                  "MPI_Scatter");

  std::vector<std::int64_t> positions;
  for (const std::vector<std::int64_t>& of_rank : routing.by_rank)
    positions.insert(positions.end(), of_rank.begin(), of_rank.end());
  Matrix rows(DType::f32, static_cast<std::int64_t>(positions.size()), d);
  const std::size_t row_bytes = static_cast<std::size_t>(d) * sizeof(float);
  for (std::size_t i = 0; i < positions.size(); ++i)
    std::memcpy(rows.data() + i * row_bytes, batch.view().row(positions[i]), row_bytes);

  routed.positions.resize(static_cast<std::size_t>(mine));
  routed.queries = Matrix(DType::f32, mine, d);
  comm::check_mpi(MPI_Scatterv(positions.data(), counts.counts.data(), counts.offsets.data(), MPI_INT64_T,
                               routed.positions.data(), mine, MPI_INT64_T, 0, comm.get()),
                  "MPI_Scatterv");
  const comm::Datatype row_type = comm::Datatype::bytes(row_bytes);
  comm::check_mpi(MPI_Scatterv(rows.data(), counts.counts.data(), counts.offsets.data(), row_type.get(),
                               routed.queries.data(), mine, row_type.get(), 0, comm.get()),
                  "MPI_Scatterv");
}

}  // namespace

RoutedBatch distribute(const comm::Communicator& comm, Matrix batch, const Routing& routing, std::int64_t d) {
  BatchHeader header{batch.rows(), routing.all ? 1 : 0};
  comm.broadcast(header);
  RoutedBatch routed;
  routed.batch_nq = header.batch_nq;
  routed.all = header.all != 0;
  if (!routed.all) {
    scatter_routed(comm, batch, routing, d, routed);
    return routed;
  }
  routed.queries = comm.is_root() ? std::move(batch) : Matrix(DType::f32, header.batch_nq, d);
  comm.broadcast_bytes(routed.queries.data(), routed.queries.bytes());
  return routed;
}

}  // namespace mpishards::rank

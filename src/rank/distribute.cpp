#include "rank/distribute.hpp"

#include <mpi.h>

#include <cstddef>
#include <cstring>
#include <span>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"
#include "merge/merge_strategy.hpp"

namespace mpishards::rank {

namespace {

struct BatchHeader {
  std::int64_t batch_nq = 0;
  std::int64_t all = 1;
  std::int64_t nprobe = 0;
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

/// Root's rows, one block of them for each rank, to the ranks. Collective over comm.
/// @param[out] mine  counts' share of this rank in rows
void scatter_rows(const comm::Communicator& comm, const ScatterCounts& counts, const void* rows,
                  std::size_t row_bytes, void* mine, int n_mine) {
  if (row_bytes == 0) return;
  const comm::Datatype row_type = comm::Datatype::bytes(row_bytes);
  comm::check_mpi(MPI_Scatterv(rows, counts.counts.data(), counts.offsets.data(), row_type.get(), mine,
                               n_mine, row_type.get(), 0, comm.get()),
                  "MPI_Scatterv");
}

/// Rows at some positions, one after the other.
std::vector<std::byte> rows_at(std::span<const std::int64_t> positions, const void* rows,
                               std::size_t row_bytes) {
  std::vector<std::byte> picked(positions.size() * row_bytes);
  const auto* from = static_cast<const std::byte*>(rows);
  for (std::size_t i = 0; row_bytes > 0 && i < positions.size(); ++i)
    std::memcpy(picked.data() + i * row_bytes, from + static_cast<std::size_t>(positions[i]) * row_bytes,
                row_bytes);
  return picked;
}

void scatter_routed(const comm::Communicator& comm, const Matrix& batch, const ProbeTable& probes,
                    const Routing& routing, std::int64_t d, RoutedBatch& routed) {
  const ScatterCounts counts = scatter_counts(routing);
  int mine = 0;
  comm::check_mpi(MPI_Scatter(counts.counts.data(), 1, MPI_INT, &mine, 1, MPI_INT, 0, comm.get()),
                  "MPI_Scatter");
  std::vector<std::int64_t> positions;
  for (const std::vector<std::int64_t>& of_rank : routing.by_rank)
    positions.insert(positions.end(), of_rank.begin(), of_rank.end());

  routed.positions.resize(static_cast<std::size_t>(mine));
  scatter_rows(comm, counts, positions.data(), sizeof(std::int64_t), routed.positions.data(), mine);
  routed.queries = Matrix(DType::f32, mine, d);
  const std::size_t query_bytes = static_cast<std::size_t>(d) * sizeof(float);
  scatter_rows(comm, counts, rows_at(positions, batch.data(), query_bytes).data(), query_bytes,
               routed.queries.data(), mine);
  const std::size_t probe_bytes = static_cast<std::size_t>(routed.probes.nprobe) * sizeof(std::int32_t);
  routed.probes.lists.resize(static_cast<std::size_t>(mine * routed.probes.nprobe));
  scatter_rows(comm, counts, rows_at(positions, probes.lists.data(), probe_bytes).data(), probe_bytes,
               routed.probes.lists.data(), mine);
}

}  // namespace

RoutedBatch distribute(const comm::Communicator& comm, Matrix batch, ProbeTable probes,
                       const Routing& routing, std::int64_t d) {
  BatchHeader header{batch.rows(), routing.all ? 1 : 0, probes.nprobe};
  comm.broadcast(header);
  RoutedBatch routed;
  routed.batch_nq = header.batch_nq;
  routed.all = header.all != 0;
  routed.probes.nprobe = header.nprobe;
  if (!routed.all) {
    scatter_routed(comm, batch, probes, routing, d, routed);
    return routed;
  }
  routed.queries = comm.is_root() ? std::move(batch) : Matrix(DType::f32, header.batch_nq, d);
  comm.broadcast_bytes(routed.queries.data(), routed.queries.bytes());
  routed.probes.lists = std::move(probes.lists);
  routed.probes.lists.resize(static_cast<std::size_t>(header.batch_nq * header.nprobe));
  comm.broadcast_bytes(routed.probes.lists.data(), routed.probes.lists.size() * sizeof(std::int32_t));
  return routed;
}

Matrix scatter_slices(const comm::Communicator& comm, const Matrix& batch, std::int64_t d) {
  std::int64_t rows = batch.rows();
  comm.broadcast(rows);
  ScatterCounts counts;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const merge::Slice slice = merge::slice_of(rows, rank, comm.size());
    counts.counts.push_back(narrow<int>(slice.size()));
    counts.offsets.push_back(narrow<int>(slice.begin));
  }
  const int n_mine = counts.counts[static_cast<std::size_t>(comm.rank())];
  Matrix mine(DType::f32, n_mine, d);
  scatter_rows(comm, counts, batch.data(), static_cast<std::size_t>(d) * sizeof(float), mine.data(), n_mine);
  return mine;
}

}  // namespace mpishards::rank

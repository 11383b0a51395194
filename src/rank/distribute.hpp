#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {

/// A rank's share of a query batch.
struct RoutedBatch {
  std::int64_t batch_nq = 0;            // queries of the whole batch
  bool all = true;                      // `queries` is the whole batch
  std::vector<std::int64_t> positions;  // else: where each row of `queries` stands in the batch
  Matrix queries;                       // float32, rows x d
  ProbeTable probes;                    // of these queries, where there are lists
  Matrix slice;                         // this rank's slice of the batch, where candidates are ranked
};

/// Sends a batch from root to the ranks that the routing names: a broadcast when all go to all, else a
/// scatter. Collective over comm.
/// @param batch    on root: batch_nq x d float32; elsewhere ignored
/// @param probes   on root: lists that the batch's queries look into; elsewhere ignored
/// @param routing  on root; elsewhere ignored
/// @param d        the same on every rank
/// @par Cost  batch_nq * (d + nprobe) * 4 bytes to each rank (all), or to each rank its own rows
RoutedBatch distribute(const comm::Communicator& comm, Matrix batch, ProbeTable probes,
                       const Routing& routing, std::int64_t d);

/// Sends every rank its slice (merge::slice_of) of a batch. Collective over comm.
/// @param batch  on root: float32, rows x d; elsewhere ignored
/// @return this rank's rows
Matrix scatter_slices(const comm::Communicator& comm, const Matrix& batch, std::int64_t d);

}  // namespace mpishards::rank

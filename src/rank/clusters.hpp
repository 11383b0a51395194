#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "io/csr_file.hpp"

namespace mpishards::rank {

/// What the clusters of a join are like.
struct ClusterSummary {
  std::int64_t clusters = 0;  // components of two rows and more
  std::int64_t largest = 0;   // rows of the largest component
  std::int64_t removed = 0;   // rows that are not kept
};

/// What find_clusters holds of every row: the label and whether it is kept.
inline constexpr std::int64_t kClusterBytesPerRow = 9;
/// What it holds at least. @return of one rank
std::int64_t cluster_bytes(std::int64_t rows);

/// Writes `component` and `keep` into the unfinished matrix of a join. Collective over comm.
///
/// The rows are the vertices of a graph, the pairs its edges. A row's component is named by the smallest row
/// in it. A row is kept unless a row before it is within the limit of it: the decision of SemDeDup, with the
/// rows in the order of the file. So no two kept rows are within the limit of each other, and every component
/// keeps its first row at least; a row that is removed is within the limit of one that comes before it, which
/// may be removed too.
///
/// Every rank joins the pairs of its slice of the rows, in a forest over all rows; root joins the forests and
/// writes. Neither depends on how the pairs are spread, so the bytes are the same for any number of ranks.
/// @param matrix  n rows of row numbers; each pair in one of its rows or in both
/// @param memory_bytes  that one rank may hold, the same on every rank
/// @return on root; elsewhere nothing of meaning
/// @throws Error, the same on every rank: {data} for an id that is no row, {io}
/// @pre matrix.shape().has_clusters; memory_bytes >= cluster_bytes(n)
/// @par Cost  one read of the pairs, spread over the ranks; at most 24 bytes a row and rank to root; held: 9
/// bytes a row and a block of pairs
/// @par Source  Abbas, Tirumala, Simig, Ganguli, Morcos: SemDeDup: Data-efficient learning at web-scale
/// through semantic deduplication, 2023, which looks for pairs within clusters of k-means only, and orders
/// the rows by their distance to the centroid
ClusterSummary find_clusters(const io::CsrSlices& matrix, std::int64_t memory_bytes,
                             const comm::Communicator& comm);

}  // namespace mpishards::rank

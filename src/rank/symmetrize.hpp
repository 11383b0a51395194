#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "comm/communicator.hpp"
#include "core/metric.hpp"
#include "io/csr_file.hpp"

namespace mpishards::rank {

/// Which edges a graph of the k nearest has: i-j where j is among the k nearest of i (directed), where either
/// is among those of the other (either), where both are (both).
enum class Symmetry : std::uint8_t { directed, either, both };
/// "none", "union", "mutual".
std::string_view to_string(Symmetry symmetry);
/// @throws Error{usage}
Symmetry symmetry_from_string(std::string_view text);

struct SymmetrizeTask {
  const io::CsrSource* directed = nullptr;  // n rows of k entries each, row numbers, padded with kNoNeighbor
  std::string out_path;                     // OUT.partial is made, synced and left unpublished
  Symmetry symmetry = Symmetry::either;
  Metric metric = Metric::l2;
  std::int64_t memory_bytes = 0;  // that one rank may hold
};

/// Makes the undirected graph of a directed one: n rows of any length, each sorted by Closer. Collective over
/// comm.
///
/// Every rank takes a slice of the rows, in pieces that fit into its memory. For each piece it reads the
/// whole directed graph for the edges into it, first to count the entries of each row, then to write them, so
/// the bytes do not depend on the ranks or the memory. An edge has the same distance from both its ends, for
/// the re-rank's sums are symmetric to the bit. A stop that is asked for ends the work: it starts over next
/// time.
/// @return entries of the new graph
/// @throws Error, the same on every rank: {config} with the numbers if a row does not fit into the memory,
/// {data} for an id that is no row, {stopped}, {cannot_create} for a full disk
/// @par Cost  on each rank (pieces to count + pieces to write) reads of the directed graph, log2(k)
/// comparisons an edge that ends in its slice; held: 8 bytes a row of the slice, a piece and a block
std::int64_t symmetrize(const SymmetrizeTask& task, const comm::Communicator& comm);

}  // namespace mpishards::rank

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "io/index_directory.hpp"
#include "io/vector_source.hpp"
#include "kernels/devices.hpp"
#include "rank/inverted_lists.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Inputs of a search, opened on this rank and checked against each other.
struct JobInputs {
  std::unique_ptr<io::VectorSource> base;
  std::unique_ptr<io::VectorSource> queries;
  io::Range base_rows;                      // that this job searches: all, or one part of an array job
  io::Range query_rows;                     // that it answers
  std::optional<io::IndexManifest> index;   // where the base is an index directory
  std::optional<InvertedLists> lists;       // where the search looks into some of its lists
  std::unique_ptr<io::VectorSource> codes;  // that are searched instead of the base's rows, where there are
  kernels::DevicePlace device;              // of this rank, where the engine has one
  bool has_faiss = false;                   // the search is in the indexes that FAISS built of its shards
  std::vector<std::string> warnings;

  /// Whether what is searched names candidates, which the base's rows rank.
  bool names_candidates() const { return codes || has_faiss; }
  /// What is kept in memory and searched: codes, or the rows themselves.
  const io::VectorSource& searched() const { return codes ? *codes : *base; }
};

/// Opens and checks all inputs; root looks at each file in a child process first. Collective over comm.
/// @throws Error, the same on every rank
JobInputs open_inputs(const SearchJobConfig& config, const comm::Communicator& comm);

/// Reads all queries of the job once, each rank a part, so that a bad value or a changed file is known before
/// any search. Collective over comm. @return sum of row hashes
/// @throws Error{data} naming file and row of a value that is not finite
std::uint64_t check_queries(const JobInputs& inputs, int threads, const comm::Communicator& comm);

/// Threads that a rank takes unasked: the cores that it is bound to, shared with the ranks that are bound to
/// the same. Collective over the ranks of one host.
int default_threads(const comm::Communicator& host);

/// The device that this rank's engine takes: the host's are dealt out by its place among the host's ranks.
/// @param engine  as named by the user; engines without devices ask for none
kernels::DevicePlace device_of_rank(const comm::Communicator& host, const std::string& engine);

/// Sizes of the job, and this rank's threads and memory where the configuration leaves them open.
/// Collective over comm: all ranks get the smallest memory and the same shape.
JobShape shape_of(const SearchJobConfig& config, const JobInputs& inputs, const comm::Communicator& comm,
                  std::vector<std::string>& warnings);

}  // namespace mpishards::rank

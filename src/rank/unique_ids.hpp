#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Refuses a base in which two rows have the same id. Collective over comm.
///
/// Every id belongs to one of several shares by a hash of it; a rank holds one share at a time, sorted.
/// @pre base.has_ids()
/// @throws Error{data}, the same on every rank, naming the id and its rows
/// @par Memory  memory_bytes
/// @par Cost  every rank reads all ids once; several times where the ids of all ranks' shares do not fit
void require_unique_ids(const io::VectorSource& base, std::int64_t memory_bytes,
                        const comm::Communicator& comm);

}  // namespace mpishards::rank

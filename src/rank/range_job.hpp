#pragma once

#include "comm/communicator.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Finds all rows within config.range->eps of every query, from files to a published sparse matrix.
/// Collective over comm.
///
/// The base streams past in groups, the queries past each group in batches; what a rank finds for a batch
/// goes to disk at once, and the journal records it. When every query has met every row, the ranks join what
/// lies there to the matrix, each its own rows. A batch that finds more than memory holds is taken in smaller
/// pieces.
///
/// Reacts to request_stop(): finishes the piece, leaves OUT.hits and OUT.journal, returns with stopped =
/// true.
/// @pre config.range
/// @throws Error, the same kind on every rank; nothing existing was touched unless config.overwrite
SearchSummary run_range_job(const SearchJobConfig& config, const comm::Communicator& comm,
                            const JobObserver& observer);

}  // namespace mpishards::rank

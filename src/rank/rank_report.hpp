#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Every rank's report, by rank, on root; empty elsewhere. Collective over comm.
std::vector<RankReport> gather_reports(const RankReport& mine, const comm::Communicator& comm);

}  // namespace mpishards::rank

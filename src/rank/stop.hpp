#pragma once

#include "comm/communicator.hpp"

namespace mpishards::rank {

/// What request_stop asked of this process so far: 0, 1 or 2.
int stop_level() noexcept;

/// The largest level that any rank was asked for. Collective over comm.
int agree_on_stop(const comm::Communicator& comm);

}  // namespace mpishards::rank

#pragma once

#include <functional>

#include "comm/communicator.hpp"

namespace mpishards::comm {

/// Runs `step` on every rank and makes one rank's failure everybody's: if any rank's step threw, every rank throws
/// the Error of the lowest failing rank, with the same kind and text ("rank 3: ..."). Collective over comm.
///
/// `step` must not communicate over `comm`: a rank that throws would leave the others waiting inside it.
/// @par Cost  one all-reduce of 8 bytes when all succeed
void agree(const Communicator& comm, const std::function<void()>& step);

}  // namespace mpishards::comm

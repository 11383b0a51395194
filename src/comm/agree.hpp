#pragma once

#include <functional>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace mpishards::comm {

/// A failure that every rank knows of: all of them throw it, so each may end in its own time.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Runs `step` on every rank and makes one rank's failure everybody's: if any rank's step threw, every rank
/// throws an AgreedError with that of the lowest failing rank, with the same kind and text ("rank 3: ...").
/// Collective over comm.
///
/// `step` must not communicate over `comm`: a rank that throws would leave the others waiting inside it.
/// @par Cost  one all-reduce of 8 bytes when all succeed
void agree(const Communicator& comm, const std::function<void()>& step);

}  // namespace mpishards::comm

#include "rank/stop.hpp"

#include <atomic>

#include "rank/search_job.hpp"

namespace mpishards::rank {

namespace {

std::atomic<int> requested_level{0};
static_assert(std::atomic<int>::is_always_lock_free, "request_stop must be safe in a signal handler");

}  // namespace

void request_stop(int level) noexcept {
  int before = requested_level.load();
  while (before < level && !requested_level.compare_exchange_weak(before, level)) {
  }
}

int stop_level() noexcept {
  return requested_level.load();
}

int agree_on_stop(const comm::Communicator& comm) {
  return static_cast<int>(comm.max(std::int64_t{stop_level()}));
}

}  // namespace mpishards::rank

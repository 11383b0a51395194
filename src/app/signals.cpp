#include "app/signals.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "core/error.hpp"
#include "rank/search_job.hpp"

namespace mpishards::app {

namespace {

std::atomic<int> g_signals_seen{0};
static_assert(std::atomic<int>::is_always_lock_free, "the handler may only touch lock-free atomics");

extern "C" void on_stop_signal(int signal_number) {
  const int seen = g_signals_seen.fetch_add(1) + 1;
  if (seen > 2) _exit(128 + signal_number);
  rank::request_stop(seen);
}

}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal_number : {SIGTERM, SIGUSR1, SIGINT})
    if (sigaction(signal_number, &action, nullptr) != 0)
      throw Error(ErrorKind::os, std::string("sigaction: ") + std::strerror(errno));
}

}  // namespace mpishards::app

#include "app/signals.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <string>

#include "core/error.hpp"
#include "rank/search_job.hpp"
#include "serve/server.hpp"

namespace mpishards::app {

namespace {

std::atomic<int> g_signals_seen{0};
std::atomic<const char*> g_acknowledgement{nullptr};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free,
              "the handler may only touch lock-free atomics");

// On a terminal it gets a line of its own: the progress bar leaves its line open.
constexpr const char* kOnTerminal =
    "\nmpishards: stopping after the batch in work; once more to stop sooner\n";
constexpr const char* kElsewhere = kOnTerminal + 1;

/// By write(2), which a signal handler may call; that it fails must not disturb the job.
void acknowledge_stop() {
  const char* text = g_acknowledgement.load();
  if (text == nullptr) return;
  const int errno_before = errno;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
  errno = errno_before;
}

extern "C" void on_stop_signal(int signal_number) {
  const int seen = g_signals_seen.fetch_add(1) + 1;
  if (seen > 2) _exit(128 + signal_number);
  rank::request_stop(seen);
  if (seen == 1) acknowledge_stop();
}

extern "C" void on_reload_signal(int /*signal_number*/) {
  serve::request_reload();
}

void install(void (*handler)(int), std::initializer_list<int> signal_numbers) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal_number : signal_numbers)
    if (sigaction(signal_number, &action, nullptr) != 0)
      throw Error(ErrorKind::os, std::string("sigaction: ") + std::strerror(errno));
}

}  // namespace

void install_stop_signals(bool acknowledge) {
  if (acknowledge) g_acknowledgement = isatty(STDERR_FILENO) != 0 ? kOnTerminal : kElsewhere;
  install(on_stop_signal, {SIGTERM, SIGUSR1, SIGINT});
}

void install_reload_signals() {
  install(on_reload_signal, {SIGHUP, SIGUSR2});
}

void silence_stop_signals() noexcept {
  g_acknowledgement = nullptr;
}

}  // namespace mpishards::app

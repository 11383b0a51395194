#pragma once

namespace mpishards::app {

/// From now on SIGTERM, SIGUSR1 and SIGINT ask the running job to stop: the first after this batch, the
/// second as soon as possible; the third ends the process at once with 128 + signal.
/// @param acknowledge  say on stderr, at once, that the first has arrived
/// @pre MPI has started (it installs handlers of its own)
void install_stop_signals(bool acknowledge);

/// From now on SIGHUP and SIGUSR2 (which mpirun hands on) ask the running server to load its collections
/// again.
void install_reload_signals();

/// From now on signals are obeyed without a word: mpirun sends some of its own when the job is over.
void silence_stop_signals() noexcept;

/// However a run ends, signals that come behind it are none of its user's.
struct SilenceAtEnd {
  SilenceAtEnd() = default;
  ~SilenceAtEnd() { silence_stop_signals(); }
  SilenceAtEnd(const SilenceAtEnd&) = delete;
  SilenceAtEnd& operator=(const SilenceAtEnd&) = delete;
};

}  // namespace mpishards::app

#pragma once

namespace mpishards::app {

/// From now on SIGTERM, SIGUSR1 and SIGINT ask the running job to stop: the first after this batch, the
/// second as soon as possible; the third ends the process at once with 128 + signal.
/// @pre MPI has started (it installs handlers of its own)
void install_stop_signals();

}  // namespace mpishards::app

#pragma once

#include "app/command.hpp"

namespace mpishards::app {

/// Whether `eval` is asked for its sweep, which is a job of all ranks; its other work is that of one.
bool wants_curve(const Arguments& arguments);

/// `eval --curve`: recall against queries/s of an index, over how many of its lists a query looks into.
/// Collective over world. @return the exit code
/// @throws Error, the same on every rank
int run_eval_curve(const Arguments& arguments, const comm::Communicator& world);

}  // namespace mpishards::app

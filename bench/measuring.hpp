#pragma once

#include <vector>

namespace mpishards::bench {

/// CPU seconds of the process instead of wall seconds: on a machine that others use too, with one thread.
inline bool use_cpu_clock = false;

double now_seconds();

template <class Step>
double seconds(Step step) {
  const double begin = now_seconds();
  step();
  return now_seconds() - begin;
}

/// @pre values is not empty
double median(std::vector<double> values);

/// Starts the program again with idle OpenMP threads that sleep, unless the caller chose. Spinning ones,
/// libgomp's default, take the cores from OpenBLAS' threads, which FAISS wakes between its own parallel
/// regions.
void let_idle_threads_sleep(char** argv);

}  // namespace mpishards::bench

#pragma once

#include <omp.h>

namespace mpishards::rank {

/// The threads that FAISS takes are those of OpenMP: as many while this lives, of the calling thread alone.
class OpenMpThreads {
 public:
  explicit OpenMpThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~OpenMpThreads() { omp_set_num_threads(before_); }
  OpenMpThreads(const OpenMpThreads&) = delete;
  OpenMpThreads& operator=(const OpenMpThreads&) = delete;

 private:
  int before_;
};

}  // namespace mpishards::rank

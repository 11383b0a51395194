#pragma once

#include <cblas.h>

namespace mpishards::kernels::cpu {

/// OpenBLAS computes in the calling thread while this lives: the engine's own threads are outside of it.
class OneBlasThread {
 public:
  OneBlasThread() : before_(openblas_get_num_threads()) { openblas_set_num_threads(1); }
  ~OneBlasThread() { openblas_set_num_threads(before_); }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_;
};

}  // namespace mpishards::kernels::cpu

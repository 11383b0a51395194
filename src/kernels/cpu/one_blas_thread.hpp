#pragma once

#include <cblas.h>

#include "kernels/blas_info.hpp"

namespace mpishards::kernels::cpu {

/// OpenBLAS computes in the calling thread while this lives: the engine's own threads are outside of it.
class OneBlasThread {
 public:
  OneBlasThread() : before_(openblas_get_num_threads()) { keep_blas_in_calling_thread(); }
  ~OneBlasThread() {
    if (before_ != 1) openblas_set_num_threads(before_);
  }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_;
};

}  // namespace mpishards::kernels::cpu

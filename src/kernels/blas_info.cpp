#include "kernels/blas_info.hpp"

#include <cblas.h>

namespace mpishards::kernels {

std::string blas_description() {
  std::string config = openblas_get_config();
  while (!config.empty() && config.back() == ' ') config.pop_back();
  const std::string core = openblas_get_corename();
  return config.find(core) == std::string::npos ? config + ", kernels for " + core : config;
}

void keep_blas_in_calling_thread() {
  // After a fork even a call that changes nothing starts the threads. With OpenMP's threads there is a number
  // for each calling thread.
  if (openblas_get_num_threads() != 1 || openblas_get_parallel() == OPENBLAS_OPENMP)
    openblas_set_num_threads(1);
}

}  // namespace mpishards::kernels

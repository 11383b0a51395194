#include "kernels/roof.hpp"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace mpishards::kernels {

namespace {

constexpr int kRows = 1024;
constexpr int kDepth = 512;
constexpr int kCols = 512;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double measure_roof_flops(int threads, double seconds) {
  if (seconds <= 0) return 0;
  openblas_set_num_threads(1);
  const double start = now_seconds();
  double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
  {
    const std::vector<float> a(kRows * kDepth, 0.5F);
    const std::vector<float> b(kCols * kDepth, 0.25F);
    std::vector<float> c(kRows * kCols);
    double best = 0;
    do {
      const double begin = now_seconds();
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, kCols, kDepth, 1.0F, a.data(), kDepth,
                  b.data(), kDepth, 0.0F, c.data(), kCols);
      best = std::max(best, 2.0 * kRows * kCols * kDepth / (now_seconds() - begin));
    } while (now_seconds() - start < seconds);
    total += best;
  }
  return total;
}

}  // namespace mpishards::kernels

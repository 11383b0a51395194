#include "kernels/roof.hpp"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/blas_info.hpp"

namespace mpishards::kernels {

namespace {

constexpr int kRows = 1024;
constexpr int kDepth = 512;
constexpr int kCols = 512;
constexpr double kProductFlops = 2.0 * kRows * kCols * kDepth;

/// Independent sums: more than the latency of a multiply-add times the units that do it.
constexpr std::size_t kSums = 12;
constexpr std::int64_t kRounds = 200'000;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What is stored here is computed, whatever the optimiser thinks of it.
volatile float sink = 0;

/// Runs kRounds of multiply-adds and returns how many floating-point operations that were.
using Burst = double (*)();

double burst_portable() {
  std::array<float, 4 * kSums> sums{};
  for (std::int64_t round = 0; round < kRounds; ++round)
    for (float& sum : sums) sum = sum * 0.999F + 0.5F;
  for (const float sum : sums) sink = sum;
  return 2.0 * static_cast<double>(kRounds) * static_cast<double>(sums.size());
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) double burst_avx2() {
  const __m256 factor = _mm256_set1_ps(0.999F);
  const __m256 term = _mm256_set1_ps(0.5F);
  __m256 sums[kSums];
  for (__m256& sum : sums) sum = term;
  for (std::int64_t round = 0; round < kRounds; ++round)
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, factor, term);
  for (const __m256& sum : sums) sink = _mm256_cvtss_f32(sum);
  return 2.0 * 8 * static_cast<double>(kRounds) * kSums;
}

__attribute__((target("avx512f"))) double burst_avx512() {
  const __m512 factor = _mm512_set1_ps(0.999F);
  const __m512 term = _mm512_set1_ps(0.5F);
  __m512 sums[kSums];
  for (__m512& sum : sums) sum = term;
  for (std::int64_t round = 0; round < kRounds; ++round)
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, factor, term);
  for (const __m512& sum : sums) sink = _mm512_cvtss_f32(sum);
  return 2.0 * 16 * static_cast<double>(kRounds) * kSums;
}
#endif

Burst widest_burst() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return burst_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return burst_avx2;
#endif
  return burst_portable;
}

/// Sum over threads of each one's best rate, all running together.
template <class MakeWork>
double best_rate(int threads, double seconds, MakeWork make_work) {
  if (seconds <= 0) return 0;
  const double start = now_seconds();
  double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
  {
    auto work = make_work();
    double best = 0;
    do {
      const double begin = now_seconds();
      const double flops = work();
      best = std::max(best, flops / (now_seconds() - begin));
    } while (now_seconds() - start < seconds);
    total += best;
  }
  return total;
}

}  // namespace

double measure_peak_flops(int threads, double seconds) {
  return best_rate(threads, seconds, [] { return widest_burst(); });
}

double measure_product_flops(int threads, double seconds) {
  keep_blas_in_calling_thread();
  return best_rate(threads, seconds, [] {
    return [a = std::vector<float>(std::size_t{kRows} * kDepth, 0.5F),
            b = std::vector<float>(std::size_t{kCols} * kDepth, 0.25F),
            c = std::vector<float>(std::size_t{kRows} * kCols)]() mutable {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, kCols, kDepth, 1.0F, a.data(), kDepth,
                  b.data(), kDepth, 0.0F, c.data(), kCols);
      return kProductFlops;
    };
  });
}

}  // namespace mpishards::kernels

#include "kernels/blas_info.hpp"

#include <cblas.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <vector>

#include "kernels/cpu/one_blas_thread.hpp"

namespace mpishards::kernels {
namespace {

std::ptrdiff_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

/// OpenBLAS ends its threads before a process forks.
void fork_and_wait() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
}

TEST(BlasInfo, describes_the_library) {
  EXPECT_NE(blas_description().find("OpenBLAS"), std::string::npos);
}

TEST(BlasInfo, threads_of_the_library_do_not_come_back_after_a_fork) {
  openblas_set_num_threads(2);
  if (threads_of_this_process() == 1) GTEST_SKIP() << "this OpenBLAS has no threads of its own";
  keep_blas_in_calling_thread();
  fork_and_wait();
  const std::ptrdiff_t without = threads_of_this_process();
  keep_blas_in_calling_thread();
  { const cpu::OneBlasThread one; }
  constexpr int kSize = 300;
  const std::vector<float> ones(kSize * kSize, 1);
  std::vector<float> product(kSize * kSize);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kSize, kSize, kSize, 1, ones.data(), kSize,
              ones.data(), kSize, 0, product.data(), kSize);
  EXPECT_TRUE(std::ranges::all_of(product, [](float sum) { return sum == kSize; }));
  EXPECT_EQ(threads_of_this_process(), without);
}

}  // namespace
}  // namespace mpishards::kernels

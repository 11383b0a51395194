#include "measuring.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "core/timer.hpp"

namespace mpishards::bench {

double now_seconds() {
  return use_cpu_clock ? static_cast<double>(std::clock()) / CLOCKS_PER_SEC : steady_seconds();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void let_idle_threads_sleep(char** argv) {
  // libgomp reads the variable once, before main.
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || setenv("OMP_WAIT_POLICY", "passive", 0) != 0) return;
  std::error_code ignored;
  execv(std::filesystem::read_symlink("/proc/self/exe", ignored).c_str(), argv);
  std::fprintf(stderr,
               "%s: could not start again with OMP_WAIT_POLICY=passive; FAISS may be slower than it can be\n",
               argv[0]);
}

}  // namespace mpishards::bench

#pragma once

#include <cstdint>

namespace mpishards::serve {

/// What the system says about this process, under the names that Prometheus clients agree upon.
struct ProcessStats {
  double cpu_seconds = 0;
  std::int64_t resident_bytes = 0;
  std::int64_t virtual_bytes = 0;
  std::int64_t open_files = 0;
  std::int64_t most_files = 0;
  double start_seconds = 0;  // since 1970
};

/// Reads /proc/self; what can't be read stays 0.
ProcessStats process_stats();

}  // namespace mpishards::serve

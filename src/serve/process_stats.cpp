#include "serve/process_stats.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace mpishards::serve {
namespace {

/// The fields of /proc/self/stat behind the program's name, which may hold anything; the first one is number
/// 3 of proc(5).
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream rest(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

std::int64_t count_open_files() {
  struct Close {
    void operator()(DIR* folder) const { ::closedir(folder); }
  };
  const std::unique_ptr<DIR, Close> folder(::opendir("/proc/self/fd"));
  if (!folder) return 0;
  std::int64_t entries = 0;
  while (::readdir(folder.get()) != nullptr) ++entries;
  return entries - 3;  // "." and ".." and the one that reads the folder
}

double seconds_since_boot() {
  std::timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

ProcessStats process_stats() {
  ProcessStats stats;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    stats.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) stats.most_files = static_cast<std::int64_t>(files.rlim_cur);
  stats.open_files = count_open_files();

  constexpr std::size_t kFirstField = 3;
  constexpr std::size_t kStartTicks = 22 - kFirstField;
  constexpr std::size_t kVirtualBytes = 23 - kFirstField;
  constexpr std::size_t kResidentPages = 24 - kFirstField;
  const std::vector<std::string> fields = stat_fields();
  if (fields.size() <= kResidentPages) return stats;
  stats.virtual_bytes = std::stoll(fields[kVirtualBytes]);
  stats.resident_bytes = std::stoll(fields[kResidentPages]) * ::sysconf(_SC_PAGESIZE);
  const double started = std::stod(fields[kStartTicks]) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  stats.start_seconds = static_cast<double>(std::time(nullptr)) - (seconds_since_boot() - started);
  return stats;
}

}  // namespace mpishards::serve

#include "io/try_in_child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "io/hdf5_handle.hpp"

namespace mpishards::io {

namespace {

constexpr auto kTimeout = std::chrono::seconds(20);
constexpr rlim_t kMaxCpuSeconds = 10;
constexpr rlim_t kMaxNewBytes = rlim_t{4} << 30;
constexpr char kFine = 'f';
constexpr std::size_t kMaxReportBytes = 1 << 16;

/// Address space in use now, so that the child's limit leaves room for what it inherits.
rlim_t mapped_bytes() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

void limit(int resource, rlim_t value) {
  rlimit current{};
  ::getrlimit(static_cast<__rlimit_resource_t>(resource), &current);
  current.rlim_cur = std::min(value, current.rlim_max);
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &current);
}

/// A crash of the child must stay the child's: no core file, no handler of MPI or ours, no noise, no long
/// run.
void confine_child() {
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, kMaxCpuSeconds);
  limit(RLIMIT_AS, mapped_bytes() + kMaxNewBytes);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM, SIGINT, SIGUSR1, SIGXCPU})
    std::signal(number, SIG_DFL);
  const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(nowhere, fd);
}

/// 'f' where all went well; else the error's kind in one byte and its text.
std::string report_of(const std::string& subject, const std::function<void()>& step) {
  try {
    step();
    return {kFine};
  } catch (const Error& error) {
    return static_cast<char>(static_cast<char>(error.kind()) + 'A') + std::string(error.what());
  } catch (const std::exception& error) {
    const std::string text = subject + " can't be opened: " + error.what();
    return static_cast<char>(static_cast<char>(ErrorKind::data) + 'A') + text;
  }
}

[[noreturn]] void run_child(const std::string& subject, const std::function<void()>& step, int report_fd) {
  reset_hdf5_mutex_after_fork();
  confine_child();
  const std::string report = report_of(subject, step);
  std::size_t sent = 0;
  while (sent < report.size()) {
    const ssize_t put = ::write(report_fd, report.data() + sent, report.size() - sent);
    if (put <= 0 && errno != EINTR) break;
    if (put > 0) sent += static_cast<std::size_t>(put);
  }
  ::_exit(0);  // handlers at exit belong to the parent's MPI and HDF5
}

/// Reads until the child has closed its end or the time is up; true in the first case.
bool receive(int fd, std::string& report) {
  const auto deadline = std::chrono::steady_clock::now() + kTimeout;
  std::array<char, 4096> part{};
  while (report.size() < kMaxReportBytes) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waiting{fd, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left.count()));
    if (ready <= 0) continue;  // interrupted, or time is up: the check above decides
    const ssize_t got = ::read(fd, part.data(), part.size());
    if (got == 0) return true;
    if (got > 0) report.append(part.data(), static_cast<std::size_t>(got));
  }
  return true;
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void judge(const std::string& subject, const std::string& report, bool in_time, int status) {
  const bool spun = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
  if (!in_time || spun)
    throw Error(ErrorKind::data, subject + ": opening it does not end (given up after " +
                                     (spun ? std::to_string(kMaxCpuSeconds) + " s of computing"
                                           : std::to_string(kTimeout.count()) + " s") +
                                     "); the file is damaged or its file system hangs");
  if (report.empty())
    throw Error(ErrorKind::data,
                subject + ": the HDF5 library crashed on it" +
                    (WIFSIGNALED(status) ? " (" + std::string(::strsignal(WTERMSIG(status))) + ")" : "") +
                    "; the file is damaged, make it again or check it with h5dump");
  if (report[0] != kFine) throw Error(static_cast<ErrorKind>(report[0] - 'A'), report.substr(1));
}

}  // namespace

void try_in_child(const std::string& subject, const std::function<void()>& step) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw Error(ErrorKind::os, std::string("can't make a pipe: ") + std::strerror(errno));
  pid_t child = -1;
  {
    const Hdf5Lock lock;  // no other thread is inside the library whose state the child inherits
    child = ::fork();
    if (child == 0) run_child(subject, step, ends[1]);
  }
  const int fork_error = errno;
  ::close(ends[1]);
  std::string report;
  const bool in_time = child > 0 && receive(ends[0], report);
  ::close(ends[0]);
  if (child < 0) throw Error(ErrorKind::os, std::string("can't fork: ") + std::strerror(fork_error));
  if (!in_time) ::kill(child, SIGKILL);
  judge(subject, report, in_time, wait_for(child));
}

}  // namespace mpishards::io

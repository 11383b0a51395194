#include "app/terminal.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "comm/environment.hpp"

namespace mpishards::app {

namespace {

/// Whether a launcher reads the stream at the other end of a pipe; output to a file is nobody's to watch.
bool is_taken_by_launcher(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && comm::detect_launcher().is_parent;
}

/// The launcher's stderr, where that is a terminal of this host; else -1.
int open_terminal_of_launcher() {
  const std::string path = "/proc/" + std::to_string(getppid()) + "/fd/2";
  const int fd = open(path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (fd < 0 || isatty(fd) != 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

Terminal::Terminal(std::FILE* stream) {
  const int fd = fileno(stream);
  if (isatty(fd) != 0) {
    fd_ = fd;
  } else if (is_taken_by_launcher(fd)) {
    fd_ = open_terminal_of_launcher();
    opened_ = fd_ >= 0;
  }
}

Terminal::~Terminal() {
  if (opened_) close(fd_);
}

int Terminal::columns() const {
  winsize size = {};
  const bool known = ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace mpishards::app

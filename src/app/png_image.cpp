#include "app/png_image.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.hpp"

namespace mpishards::app {

namespace {

constexpr const char* kProgram = "rsvg-convert";
constexpr std::chrono::seconds kTimeout{20};
constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";

[[noreturn]] void fail(const char* call) {
  throw Error(ErrorKind::os, std::string(kProgram) + ": " + call + ": " + std::strerror(errno));
}

[[noreturn]] void give_up(const std::string& why) {
  throw Error(ErrorKind::unavailable, std::string("a .png plot is drawn by ") + kProgram + ", which " + why +
                                          "; install it (Debian: librsvg2-bin), or name the plot .svg");
}

/// Move-only owner of a descriptor of no file that has a name.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

/// Memory that another process reads as its input, from the beginning.
Descriptor in_memory(std::string_view text) {
  Descriptor file(::memfd_create("drawing", MFD_CLOEXEC));
  if (file.get() < 0) fail("memfd_create");
  while (!text.empty()) {
    const ssize_t put = ::write(file.get(), text.data(), text.size());
    if (put < 0 && errno != EINTR) fail("write");
    if (put > 0) text.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::lseek(file.get(), 0, SEEK_SET) < 0) fail("lseek");
  return file;
}

std::pair<Descriptor, Descriptor> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

/// The program at work; it ends with its owner at the latest.
class Renderer {
 public:
  /// @throws Error{unavailable} where it can't be started
  Renderer(const Descriptor& input, const Descriptor& output) {
    std::array<std::string, 5> words = {kProgram, "--zoom", "2", "--format", "png"};
    std::array<char*, 6> argv{};
    for (std::size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
    posix_spawn_file_actions_t actions;
    int problem = posix_spawn_file_actions_init(&actions);
    if (problem == 0) {
      problem = posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
      if (problem == 0) problem = posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
      if (problem == 0) problem = ::posix_spawnp(&child_, kProgram, &actions, nullptr, argv.data(), environ);
      posix_spawn_file_actions_destroy(&actions);
    }
    if (problem != 0) give_up(std::string("can't be started: ") + std::strerror(problem));
  }
  Renderer(const Renderer&) = delete;
  ~Renderer() {
    if (child_ == 0) return;
    ::kill(child_, SIGKILL);
    wait();
  }

  /// @return its wait status
  int wait() {
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = 0;
    return status;
  }

 private:
  pid_t child_ = 0;
};

/// Reads until the other end is closed. @throws Error{unavailable} where that takes too long
std::string read_all(const Descriptor& from) {
  const auto deadline = std::chrono::steady_clock::now() + kTimeout;
  std::string bytes;
  std::array<char, 1 << 16> part{};
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) give_up("drew nothing in " + std::to_string(kTimeout.count()) + " s");
    pollfd waiting{from.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;  // the check above decides
    const ssize_t got = ::read(from.get(), part.data(), part.size());
    if (got < 0 && errno != EINTR) fail("read");
    if (got == 0) return bytes;
    if (got > 0) bytes.append(part.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

void require_png_renderer() {
  png_of(R"(<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>)");
}

std::string png_of(const std::string& svg) {
  const Descriptor input = in_memory(svg);
  auto [reading, writing] = make_pipe();
  Renderer renderer(input, writing);
  writing.close();  // or the end of its output would never be seen
  std::string bytes = read_all(reading);
  const int status = renderer.wait();
  if (status != 0 || !bytes.starts_with(kSignature))
    give_up("failed (wait status " + std::to_string(status) + "; what it said is above)");
  return bytes;
}

}  // namespace mpishards::app

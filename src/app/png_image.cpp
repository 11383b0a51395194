#include "app/png_image.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/error.hpp"

namespace mpishards::app {

namespace {

constexpr const char* kProgram = "rsvg-convert";

[[noreturn]] void fail(const char* call, int error_number) {
  throw Error(ErrorKind::os, std::string(kProgram) + ": " + call + ": " + std::strerror(error_number));
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
  if (file.get() < 0) fail("memfd_create", errno);
  while (!text.empty()) {
    const ssize_t put = ::write(file.get(), text.data(), text.size());
    if (put < 0 && errno != EINTR) fail("write", errno);
    if (put > 0) text.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::lseek(file.get(), 0, SEEK_SET) < 0) fail("lseek", errno);
  return file;
}

std::pair<Descriptor, Descriptor> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2", errno);
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

std::string read_all(const Descriptor& from) {
  std::string bytes;
  std::array<char, 1 << 16> part{};
  for (;;) {
    const ssize_t got = ::read(from.get(), part.data(), part.size());
    if (got < 0 && errno != EINTR) fail("read", errno);
    if (got == 0) return bytes;
    if (got > 0) bytes.append(part.data(), static_cast<std::size_t>(got));
  }
}

/// Starts the program. @throws Error{unavailable} where there is none
pid_t start(const Descriptor& input, const Descriptor& output) {
  std::array<std::string, 5> words = {kProgram, "--zoom", "2", "--format", "png"};
  std::array<char*, 6> argv{};
  for (std::size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
  pid_t child = 0;
  const int error_number = ::posix_spawnp(&child, kProgram, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error_number == ENOENT)
    throw Error(ErrorKind::unavailable, std::string("a .png plot is drawn by ") + kProgram +
                                            ", which is not on the PATH; install it (Debian: "
                                            "librsvg2-bin), or name the plot .svg");
  if (error_number != 0) fail("posix_spawnp", error_number);
  return child;
}

void wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid", errno);
  if (status != 0)
    throw Error(ErrorKind::internal, std::string(kProgram) + " refused the drawing (wait status " +
                                         std::to_string(status) + "); what it said is above");
}

}  // namespace

void require_png_renderer() {
  png_of(R"(<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>)");
}

std::string png_of(const std::string& svg) {
  const Descriptor input = in_memory(svg);
  auto [reading, writing] = make_pipe();
  const pid_t child = start(input, writing);
  writing.close();  // or the end of its output would never be seen
  std::string bytes = read_all(reading);
  wait_for(child);
  return bytes;
}

}  // namespace mpishards::app

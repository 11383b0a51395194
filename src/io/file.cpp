#include "io/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.hpp"

namespace mpishards::io {

namespace {

/// One system call's share: large enough for a parallel file system's stripes, small enough to be
/// interrupted.
constexpr std::size_t kBlockBytes = std::size_t{8} << 20;
constexpr std::int64_t kMaxTextBytes = std::int64_t{64} << 20;

[[noreturn]] void fail(ErrorKind otherwise, const std::string& what, int error_number) {
  throw Error(kind_of_errno(error_number, otherwise), what + ": " + std::strerror(error_number));
}

struct stat status_of(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail(ErrorKind::io, "can't look at " + path, errno);
  return status;
}

void require_regular(const struct stat& status, const std::string& path) {
  if (S_ISREG(status.st_mode)) return;
  const char* found = S_ISDIR(status.st_mode)    ? "a directory"
                      : S_ISFIFO(status.st_mode) ? "a pipe"
                                                 : "a device or socket";
  throw Error(ErrorKind::data, path + " is " + found + ", expected a regular file");
}

[[noreturn]] void fail_write(const std::string& path, std::int64_t offset, int error_number) {
  if (error_number == ENOSPC || error_number == EDQUOT)
    throw Error(ErrorKind::io, std::string(error_number == ENOSPC ? "disk full" : "disk quota used up") +
                                   ": can't write " + path + " at byte " + std::to_string(offset) +
                                   "; free space or write elsewhere, then run the same line again");
  throw Error(ErrorKind::io, "can't write " + path + " at byte " + std::to_string(offset) + ": " +
                                 std::strerror(error_number));
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// Makes a rename in this folder durable. File systems that can't sync folders (EINVAL) need no sync.
void sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int error_number = fd >= 0 && ::fsync(fd) == 0 ? 0 : errno;
  if (fd >= 0) ::close(fd);
  if (error_number != 0 && error_number != EINVAL)
    throw Error(ErrorKind::cannot_create, "can't sync folder " + folder + ": " + std::strerror(error_number));
}

}  // namespace

File File::open_read(const std::string& path) {
  File file;
  file.path_ = path;
  // Non-blocking, or opening a pipe would wait for its writer; regular files don't care.
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) fail(ErrorKind::io, "can't open " + path, errno);
  require_regular(status_of(file.fd_, path), path);
  return file;
}

File File::open_write(const std::string& path, bool truncate) {
  File file;
  file.path_ = path;
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | (truncate ? O_TRUNC : 0);
  file.fd_ = ::open(path.c_str(), flags, 0666);
  if (file.fd_ < 0) {
    const int error_number = errno;
    const std::string cause = ": " + std::string(std::strerror(error_number));
    const bool denied = error_number == EACCES || error_number == EPERM;
    throw Error(denied ? ErrorKind::permission : ErrorKind::cannot_create, "can't create " + path + cause);
  }
  return file;
}

File::~File() {
  if (fd_ >= 0 && ::close(fd_) != 0)
    std::fprintf(stderr, "warning: closing %s: %s\n", path_.c_str(), std::strerror(errno));
}

std::int64_t File::size_bytes() const {
  return status_of(fd_, path_).st_size;
}

void File::read_at(std::int64_t offset, void* out, std::size_t bytes) const {
  auto* at = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, at, std::min(bytes, kBlockBytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw Error(ErrorKind::io,
                  "can't read " + path_ + " at byte " + std::to_string(offset) + ": " + std::strerror(errno));
    if (got == 0)
      throw Error(ErrorKind::data, path_ + " ends at byte " + std::to_string(size_bytes()) + ", expected " +
                                       std::to_string(bytes) + " more bytes from byte " +
                                       std::to_string(offset) + "; it is truncated or still being written");
    at += got;
    offset += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

void File::write_at(std::int64_t offset, const void* data, std::size_t bytes) const {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::pwrite(fd_, at, std::min(bytes, kBlockBytes), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_write(path_, offset, put < 0 ? errno : ENOSPC);
    at += put;
    offset += put;
    bytes -= static_cast<std::size_t>(put);
  }
}

void File::sync() const {
  if (::fsync(fd_) == 0) return;
  if (errno == EINVAL) return;  // a special file that has nothing to sync
  fail_write(path_, size_bytes(), errno);
}

void File::close() {
  const int fd = std::exchange(fd_, -1);
  // NFS reports a full disk only here; EINTR leaves the descriptor closed on Linux.
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) fail_write(path_, 0, errno);
}

void publish(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    const int error_number = errno;
    throw Error(ErrorKind::cannot_create,
                "can't rename " + from + " to " + to + ": " + std::strerror(error_number));
  }
  sync_folder(folder_of(to));
}

std::string read_text(const std::string& path) {
  const File file = File::open_read(path);
  const std::int64_t size = file.size_bytes();
  if (size > kMaxTextBytes)
    throw Error(ErrorKind::data, path + " has " + std::to_string(size) +
                                     " bytes, expected a text file of at most " +
                                     std::to_string(kMaxTextBytes));
  std::string text(static_cast<std::size_t>(size), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

void write_text_atomically(const std::string& path, const std::string& text) {
  const std::string beside = path + ".tmp";
  File file = File::open_write(beside, true);
  file.write_at(0, text.data(), text.size());
  file.sync();
  file.close();
  publish(beside, path);
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

}  // namespace mpishards::io

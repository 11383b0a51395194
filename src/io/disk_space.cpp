#include "io/disk_space.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "core/error.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

[[noreturn]] void fail_disk_full(std::int64_t bytes, const std::string& folder, std::int64_t free_bytes) {
  throw Error(ErrorKind::cannot_create, "disk full: needs " + std::to_string(bytes) + " bytes, " +
                                            std::to_string(free_bytes) + " are free on " + folder);
}

/// Free bytes for this user, "unlimited" where the file system can't say.
std::int64_t free_bytes_on(const std::string& folder) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) return std::numeric_limits<std::int64_t>::max();
  const auto blocks = static_cast<double>(status.f_bavail);
  const double bytes = blocks * static_cast<double>(status.f_frsize);
  return bytes < 9e18 ? static_cast<std::int64_t>(bytes) : std::numeric_limits<std::int64_t>::max();
}

}  // namespace

void require_free_space(const std::string& folder, std::int64_t bytes) {
  const std::int64_t available = free_bytes_on(folder);
  if (bytes > available) fail_disk_full(bytes, folder, available);
}

void reserve(const File& file, std::int64_t bytes) {
  if (bytes == 0) return;
  int result = 0;
  do {
    result = ::fallocate(file.get(), 0, 0, bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  const int error_number = errno;
  if (error_number == ENOSPC || error_number == EDQUOT)
    fail_disk_full(bytes, folder_of(file.path()), free_bytes_on(folder_of(file.path())));
  if (error_number == EOPNOTSUPP || error_number == ENOSYS) {
    if (file.size_bytes() >= bytes || ::ftruncate(file.get(), bytes) == 0) return;
  }
  throw Error(ErrorKind::cannot_create, "can't make " + file.path() + " " + std::to_string(bytes) +
                                            " bytes long: " + std::strerror(error_number));
}

}  // namespace mpishards::io

#pragma once

#include <hdf5.h>

#include <cstdio>
#include <mutex>
#include <source_location>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace mpishards::io {

/// The one lock around every call of the HDF5 library, which is not thread safe. Recursive, so that an owner
/// may be released inside a locked region. The first call also turns the library's own error printing off.
std::recursive_mutex& hdf5_mutex();

/// Makes the lock anew in a forked child, where the parent's thread that held it does not exist.
/// @pre the parent held it while forking, so that the library was at rest
void reset_hdf5_mutex_after_fork();

/// Scope in which this thread may call HDF5.
class Hdf5Lock {
 public:
  Hdf5Lock() : lock_(hdf5_mutex()) {}

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

/// Throws what HDF5's error stack says about the call that has just failed; empties the stack.
[[noreturn]] void throw_hdf5(const char* call, const std::string& subject, ErrorKind kind,
                             std::source_location where = std::source_location::current());

/// Returns `result` unless it is negative, HDF5's sign of failure.
///
/// @param subject  what was being worked on, for the message: file, or file and data set
/// @pre  the caller holds the Hdf5Lock since before the call
/// @throws Error{kind} with the call and the causes on HDF5's error stack
template <class T>
T check_hdf5(T result, const char* call, const std::string& subject, ErrorKind kind = ErrorKind::data,
             std::source_location where = std::source_location::current()) {
  if (result < 0) throw_hdf5(call, subject, kind, where);
  return result;
}

/// Move-only owner of an HDF5 identifier. Null (negative) by default.
template <herr_t (*Close)(hid_t)>
class H5Handle {
 public:
  H5Handle() = default;
  /// Takes what an H5...open or ...create call returned. @throws Error{kind} if that call failed
  H5Handle(hid_t id, const char* call, const std::string& subject, ErrorKind kind = ErrorKind::data,
           std::source_location where = std::source_location::current())
      : id_(check_hdf5(id, call, subject, kind, where)) {}

  H5Handle(H5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  H5Handle& operator=(H5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~H5Handle() {
    if (id_ < 0) return;
    const Hdf5Lock lock;
    if (Close(id_) < 0) std::fprintf(stderr, "warning: HDF5 could not release a handle\n");
  }

  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

  /// Releases now and reports a failure. @throws Error{io}
  void close(const std::string& subject) {
    const Hdf5Lock lock;
    if (id_ >= 0) check_hdf5(Close(std::exchange(id_, -1)), "close", subject, ErrorKind::io);
  }

 private:
  hid_t id_ = -1;
};

using H5File = H5Handle<H5Fclose>;
using H5Group = H5Handle<H5Gclose>;
using H5Dataset = H5Handle<H5Dclose>;
using H5Space = H5Handle<H5Sclose>;
using H5Type = H5Handle<H5Tclose>;
using H5Plist = H5Handle<H5Pclose>;
using H5Attribute = H5Handle<H5Aclose>;

/// Access properties for every file: no file locks (parallel file systems often lack them) unless the
/// environment variable HDF5_USE_FILE_LOCKING says otherwise.
H5Plist hdf5_file_access();

/// Opens an existing file read-only. @pre it has the HDF5 signature @throws Error{data}
H5File open_hdf5_read(const std::string& path);

}  // namespace mpishards::io

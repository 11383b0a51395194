#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mpishards {

/// What went wrong, in the terms a caller can act on. Each kind has one exit code (sysexits).
enum class ErrorKind {
  usage,          // 64  wrong flags or arguments
  data,           // 65  input exists but its contents are wrong
  input_missing,  // 66  no such input file or data set
  unavailable,    // 69  a device, peer or service is not there
  internal,       // 70  a bug in this program
  os,             // 71  the system refused: memory, threads, fork
  cannot_create,  // 73  output exists, is locked or can't be made
  io,             // 74  a read or write failed
  stopped,        // 75  stopped cleanly with a checkpoint
  permission,     // 77
  config,         // 78  job file or environment
  mpi,            // 71
  cuda,           // 69
  nccl,           // 69
};

int exit_code(ErrorKind kind);
std::string_view to_string(ErrorKind kind);

/// One failure: kind, one line of cause and remedy, and where it was noticed.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message,
        std::source_location where = std::source_location::current())
      : std::runtime_error(message), kind_(kind), where_(where) {}

  ErrorKind kind() const noexcept { return kind_; }
  const std::source_location& where() const noexcept { return where_; }

 private:
  ErrorKind kind_;
  std::source_location where_;
};

/// Maps an errno of open, read, write or rename on a path to the kind that users can act on.
ErrorKind kind_of_errno(int error_number, ErrorKind otherwise);

}  // namespace mpishards

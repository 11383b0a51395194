#include "core/error.hpp"

#include <cerrno>

namespace mpishards {

namespace {

struct KindRow {
  ErrorKind kind;
  int exit_code;
  std::string_view name;
};

constexpr KindRow kKinds[] = {
    {ErrorKind::usage, 64, "usage"},
    {ErrorKind::data, 65, "bad data"},
    {ErrorKind::input_missing, 66, "input missing"},
    {ErrorKind::unavailable, 69, "unavailable"},
    {ErrorKind::internal, 70, "internal"},
    {ErrorKind::os, 71, "system"},
    {ErrorKind::cannot_create, 73, "cannot create output"},
    {ErrorKind::io, 74, "I/O"},
    {ErrorKind::stopped, 75, "stopped"},
    {ErrorKind::permission, 77, "permission"},
    {ErrorKind::config, 78, "configuration"},
    {ErrorKind::mpi, 71, "MPI"},
    {ErrorKind::cuda, 69, "CUDA"},
    {ErrorKind::nccl, 69, "NCCL"},
};

const KindRow& row_of(ErrorKind kind) {
  for (const KindRow& row : kKinds)
    if (row.kind == kind) return row;
  return kKinds[4];
}

}  // namespace

int exit_code(ErrorKind kind) {
  return row_of(kind).exit_code;
}

std::string_view to_string(ErrorKind kind) {
  return row_of(kind).name;
}

ErrorKind kind_of_errno(int error_number, ErrorKind otherwise) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return ErrorKind::input_missing;
    case EACCES:
    case EPERM:
      return ErrorKind::permission;
    default:
      return otherwise;
  }
}

}  // namespace mpishards

#pragma once

#include <mpi.h>

#include <source_location>

namespace mpishards::comm {

/// @throws Error{mpi} with the library's own text unless code is MPI_SUCCESS
void check_mpi(int code, const char* call, std::source_location at = std::source_location::current());

}  // namespace mpishards::comm

#pragma once

#include <source_location>

namespace mpishards::kernels::cuda {

/// @param code  a cudaError_t @param call  what was called, for the message
/// @throws Error{unavailable} where the device has no memory left or is busy, Error{cuda} else
void check_cuda(int code, const char* call, std::source_location at = std::source_location::current());

}  // namespace mpishards::kernels::cuda

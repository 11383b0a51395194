#pragma once

#include <string>

namespace mpishards::kernels {

/// What the BLAS library says of itself: version, build options, and the kernels it chose for this CPU.
std::string blas_description();

}  // namespace mpishards::kernels

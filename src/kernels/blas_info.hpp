#pragma once

#include <string>

namespace mpishards::kernels {

/// What the BLAS library says of itself: version, build options, and the kernels it chose for this CPU.
std::string blas_description();

/// From now on OpenBLAS computes in the thread that calls it; the engines have threads of their own. Where
/// this is called before the process first forks, OpenBLAS never starts its threads again: each start has
/// them poll for a tenth of a second, on cores that others need. Not while another thread is in OpenBLAS.
void keep_blas_in_calling_thread();

}  // namespace mpishards::kernels

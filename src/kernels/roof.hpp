#pragma once

namespace mpishards::kernels {

/// What this process's cores can do at most: float32 fused multiply-adds on registers, without any memory, in
/// the widest vectors that the machine has; in floating-point operations a second. The roof that reports
/// compare with.
/// @param threads  >= 1, run together
/// @param seconds  how long to measure; 0 returns 0 at once
double measure_peak_flops(int threads, double seconds);

/// What a matrix product reaches on them (float32, 1024 x 512 x 512 for each thread): what plans expect of a
/// search.
/// @param threads  >= 1, run together
/// @param seconds  how long to measure; 0 returns 0 at once
double measure_product_flops(int threads, double seconds);

}  // namespace mpishards::kernels

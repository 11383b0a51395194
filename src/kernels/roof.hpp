#pragma once

namespace mpishards::kernels {

/// Rate of float32 matrix products on this process's cores, in floating-point operations a second: the roof
/// that reports and plans compare with. Best of several products of 1024 x 512 x 512 for each thread, run
/// together.
/// @param threads  >= 1
/// @param seconds  how long to measure; 0 returns 0 at once
double measure_roof_flops(int threads, double seconds);

}  // namespace mpishards::kernels

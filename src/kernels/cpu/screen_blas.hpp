#pragma once

#include "kernels/cpu/screen.hpp"

namespace mpishards::kernels::cpu {

/// Matrix products by OpenBLAS in the calling thread, and a filter in portable C++.
std::int64_t blas_scratch_floats(std::int64_t nq, std::int64_t base_rows, std::int64_t d);
void screen_blas(const ScreenTile& tile, CandidateSink& sink);

inline constexpr Screen kBlasScreen = {[](std::int64_t, std::int64_t) { return std::int64_t{0}; },
                                       [](MatrixView<const float>, float*) {}, blas_scratch_floats,
                                       screen_blas};

}  // namespace mpishards::kernels::cpu

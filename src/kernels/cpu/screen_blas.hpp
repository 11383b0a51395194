#pragma once

#include "kernels/cpu/screen.hpp"

namespace mpishards::kernels::cpu {

/// tile.scores = queries x base, transposed, by OpenBLAS in the calling thread.
void multiply_blas(const ScreenTile& tile);

/// Screens with multiply_blas and a filter in portable C++.
void screen_blas(const ScreenTile& tile, CandidateSink& sink);

}  // namespace mpishards::kernels::cpu

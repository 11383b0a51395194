#include "kernels/cpu/screen_blas.hpp"

#include <cblas.h>

#include <algorithm>

#include "core/narrow.hpp"

namespace mpishards::kernels::cpu {
namespace {

// One branch for so many scores: hits are rare.
constexpr std::int64_t kRun = 32;

/// Turns products into scores in place; true where at least one is a candidate.
bool finish_run(const ScreenTile& tile, float* scores, std::int64_t begin, std::int64_t end,
                float threshold) {
  int hits = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const float scaled = tile.scale != nullptr ? scores[row] * tile.scale[row] : scores[row];
    const float score = tile.bias != nullptr ? scaled + tile.bias[row] : scaled;
    scores[row] = score;
    hits += score < threshold ? 0 : 1;
  }
  return hits > 0;
}

/// All products of the tile, in its scratch.
void multiply(const ScreenTile& tile) {
  const auto rows = narrow<blasint>(tile.base.rows);
  const auto d = narrow<blasint>(tile.base.cols);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow<blasint>(tile.queries.rows), rows, d, 1.0f,
              tile.queries.data, d, tile.base.data, d, 0.0f, tile.scratch, rows);
}

}  // namespace

std::int64_t blas_scratch_floats(std::int64_t nq, std::int64_t base_rows, std::int64_t) {
  return nq * base_rows;
}

void screen_blas(const ScreenTile& tile, CandidateSink& sink) {
  multiply(tile);
  for (std::int64_t query = 0; query < tile.queries.rows; ++query) {
    float* const scores = tile.scratch + query * tile.base.rows;
    for (std::int64_t begin = 0; begin < tile.base.rows; begin += kRun) {
      const std::int64_t end = std::min(tile.base.rows, begin + kRun);
      if (!finish_run(tile, scores, begin, end, tile.thresholds[query])) continue;
      for (std::int64_t row = begin; row < end; ++row)
        if (!(scores[row] < tile.thresholds[query])) sink.add(query, row, scores[row]);
    }
  }
}

}  // namespace mpishards::kernels::cpu

#include "kernels/cpu/tile_screen.hpp"

#include <algorithm>

#include "core/convert.hpp"
#include "kernels/cpu/scratch.hpp"

namespace mpishards::kernels::cpu {
namespace {

std::int64_t copied_floats(std::int64_t base_tile, std::int64_t d, DType dtype, bool with_places) {
  return dtype == DType::f32 && !with_places ? 0 : base_tile * d;
}

}  // namespace

void TileScreen::reserve(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d, DType dtype,
                         bool with_places, const Isa& isa) {
  packed_queries_.reserve(isa.screen.packed_query_floats(query_tile, d));
  scratch_.reserve(isa.screen.scratch_floats(query_tile, base_tile, d));
  tile_floats_.reserve(copied_floats(base_tile, d, dtype, with_places));
  set_size(place_norms_, with_places ? base_tile : 0);
}

std::int64_t TileScreen::bytes_for(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d,
                                   DType dtype, bool with_places, const Isa& isa) {
  return (isa.screen.packed_query_floats(query_tile, d) +
          isa.screen.scratch_floats(query_tile, base_tile, d) +
          copied_floats(base_tile, d, dtype, with_places) + (with_places ? base_tile : 0)) *
         static_cast<std::int64_t>(sizeof(float));
}

std::size_t TileScreen::bytes() const {
  return packed_queries_.bytes() + scratch_.bytes() + tile_floats_.bytes() + bytes_of(place_norms_);
}

void TileScreen::begin(const Isa& isa, MatrixView<const float> queries) {
  isa_ = &isa;
  queries_ = queries;
  isa.screen.pack_queries(queries, packed_queries_.data());
}

const float* TileScreen::floats(const RowSet& set, std::int64_t begin, std::int64_t end) {
  if (set.rows.dtype == DType::f32) return set.rows.as<const float>().row(begin);
  to_float32(set.rows.dtype, set.rows.row(begin), (end - begin) * set.rows.cols, tile_floats_.data());
  return tile_floats_.data();
}

void TileScreen::run(const RowSet& set, std::int64_t begin, std::int64_t end, const float* thresholds,
                     CandidateSink& sink) {
  run_floats(floats(set, begin, end), set.norms->scale(begin), set.norms->bias(begin), end - begin,
             thresholds, sink);
}

void TileScreen::run_places(const RowSet& set, std::int64_t begin, std::int64_t end, const float* thresholds,
                            CandidateSink& sink) {
  const float* const scale = set.norms->scale(0);
  const float* const norms = scale != nullptr ? scale : set.norms->bias(0);
  for (std::int64_t place = begin; place < end; ++place) {
    const std::int64_t row = set.plane->row_at(place);
    to_float32(set.rows.dtype, set.rows.row(row), set.rows.cols,
               tile_floats_.data() + (place - begin) * set.rows.cols);
    if (norms != nullptr) place_norms_[static_cast<std::size_t>(place - begin)] = norms[row];
  }
  const float* const own_norms = norms == nullptr ? nullptr : place_norms_.data();
  run_floats(tile_floats_.data(), scale != nullptr ? own_norms : nullptr,
             scale != nullptr ? nullptr : own_norms, end - begin, thresholds, sink);
}

void TileScreen::run_floats(const float* rows, const float* scale, const float* bias, std::int64_t count,
                            const float* thresholds, CandidateSink& sink) {
  ScreenTile tile;
  tile.queries = queries_;
  tile.base = {rows, count, queries_.cols};
  tile.scale = scale;
  tile.bias = bias;
  tile.thresholds = thresholds;
  tile.packed_queries = packed_queries_.data();
  tile.scratch = scratch_.data();
  isa_->screen.run(tile, sink);
}

}  // namespace mpishards::kernels::cpu

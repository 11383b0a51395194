#include "kernels/cpu/tile_screen.hpp"

#include <algorithm>

#include "core/convert.hpp"

namespace mpishards::kernels::cpu {
namespace {

std::int64_t converted_floats(std::int64_t base_tile, std::int64_t d, DType dtype) {
  return dtype == DType::f32 ? 0 : base_tile * d;
}

}  // namespace

void TileScreen::reserve(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d, DType dtype,
                         const Isa& isa) {
  packed_queries_.reserve(isa.screen.packed_query_floats(query_tile, d));
  scratch_.reserve(isa.screen.scratch_floats(query_tile, base_tile, d));
  const auto floats = static_cast<std::size_t>(converted_floats(base_tile, d, dtype));
  if (floats > tile_floats_.capacity()) std::vector<float>().swap(tile_floats_);  // no copy of old scratch
  tile_floats_.resize(floats);
}

std::int64_t TileScreen::bytes_for(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d,
                                   DType dtype, const Isa& isa) {
  return (isa.screen.packed_query_floats(query_tile, d) +
          isa.screen.scratch_floats(query_tile, base_tile, d) + converted_floats(base_tile, d, dtype)) *
         static_cast<std::int64_t>(sizeof(float));
}

std::size_t TileScreen::bytes() const {
  return packed_queries_.bytes() + scratch_.bytes() + tile_floats_.capacity() * sizeof(float);
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
  ScreenTile tile;
  tile.queries = queries_;
  tile.base = {floats(set, begin, end), end - begin, set.rows.cols};
  tile.scale = set.norms->scale(begin);
  tile.bias = set.norms->bias(begin);
  tile.thresholds = thresholds;
  tile.packed_queries = packed_queries_.data();
  tile.scratch = scratch_.data();
  isa_->screen.run(tile, sink);
}

}  // namespace mpishards::kernels::cpu

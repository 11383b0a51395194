#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/matrix_view.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/row_norms.hpp"
#include "kernels/cpu/row_plane.hpp"
#include "kernels/cpu/screen.hpp"

namespace mpishards::kernels::cpu {

/// Scratch memory on whole cache lines; only grows. Not initialised, see allocate_bulk.
class AlignedFloats {
 public:
  void reserve(std::int64_t count) {
    if (count > memory_.cols()) memory_ = Matrix(DType::f32, 1, count);
  }
  float* data() { return memory_.as<float>().data; }
  const float* data() const { return reinterpret_cast<const float*>(memory_.data()); }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  Matrix memory_;
};

/// The rows of a shard, or of a sample of it: row i of `rows` is row i * stride of the shard.
struct RowSet {
  TypedView rows;
  const RowNorms* norms = nullptr;
  std::int64_t stride = 1;
  const RowPlane* plane = nullptr;  // null: none
};

/// One thread's screen of one chunk of queries: the packed queries and the tile being screened.
class TileScreen {
 public:
  /// Room for tiles of query_tile x base_tile over rows of a type. @param with_places  for run_places
  void reserve(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d, DType dtype, bool with_places,
               const Isa& isa);
  /// What reserve() takes.
  static std::int64_t bytes_for(std::int64_t query_tile, std::int64_t base_tile, std::int64_t d, DType dtype,
                                bool with_places, const Isa& isa);
  std::size_t bytes() const;

  /// Takes the chunk that the next tiles are screened against. @pre no more queries than reserved
  void begin(const Isa& isa, MatrixView<const float> queries);

  /// Screens rows [begin, end) of a set. @param thresholds  one a query; the sink may raise them
  /// @pre end - begin is no more than the base_tile reserved
  void run(const RowSet& set, std::int64_t begin, std::int64_t end, const float* thresholds,
           CandidateSink& sink);
  /// The same of the rows that are at these places of the set's plane.
  void run_places(const RowSet& set, std::int64_t begin, std::int64_t end, const float* thresholds,
                  CandidateSink& sink);

 private:
  void run_floats(const float* rows, const float* scale, const float* bias, std::int64_t count,
                  const float* thresholds, CandidateSink& sink);
  const float* floats(const RowSet& set, std::int64_t begin, std::int64_t end);

  const Isa* isa_ = nullptr;
  MatrixView<const float> queries_;
  AlignedFloats packed_queries_;
  AlignedFloats scratch_;
  AlignedFloats tile_floats_;       // base rows of other types, or at places
  std::vector<float> place_norms_;  // scale or bias of rows at places
};

}  // namespace mpishards::kernels::cpu

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/cpu/screen.hpp"

namespace mpishards::kernels::cpu {

/// How a plane stores values, and so what multiplies them.
enum class PlaneType : std::uint8_t {
  bf16,  // bfloat16, summed in float32
  s8,    // signed bytes, summed in int32: scaled values, or 8-bit data as it is
  u8,    // unsigned bytes, summed in int32: 8-bit data as it is
};

/// The order of a plane: tiles of 16 rows x 64 bytes, each contiguous; two tiles over each other are a panel,
/// and a panel's tiles follow each other along the row.
inline constexpr std::int64_t kTileRows = 16;
inline constexpr std::int64_t kTileRowBytes = 64;
inline constexpr std::int64_t kTileBytes = kTileRows * kTileRowBytes;
inline constexpr std::int64_t kPanelRows = 2 * kTileRows;

constexpr std::int64_t bytes_per_value(PlaneType type) {
  return type == PlaneType::bf16 ? 2 : 1;
}

/// Tiles along a row of d values.
constexpr std::int64_t row_tiles(PlaneType type, std::int64_t d) {
  return (d * bytes_per_value(type) + kTileRowBytes - 1) / kTileRowBytes;
}

constexpr std::int64_t panels_of(std::int64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows;
}

/// Bytes of rows, or of queries, in a plane.
constexpr std::int64_t plane_bytes(PlaneType type, std::int64_t rows, std::int64_t d) {
  return panels_of(rows) * row_tiles(type, d) * 2 * kTileBytes;
}

/// A query that is compared with a block of rows at a time has thresholds for whole panels.
constexpr std::int64_t padded_queries(std::int64_t queries) {
  return panels_of(queries) * kPanelRows;
}

/// A packed chunk of queries against a packed block of base rows.
///
/// score = unit[query] * (query . row) + bias[row], of the packed values; larger is better. Reports every
/// pair whose score is not below its query's threshold.
struct PlaneTile {
  PlaneType type = PlaneType::bf16;
  std::int64_t row_tiles = 0;
  const std::byte* queries = nullptr;  // by PlaneQueries
  std::int64_t n_queries = 0;
  const std::byte* rows = nullptr;  // by RowPlane; whole panels
  std::int64_t n_rows = 0;
  const void* bias = nullptr;        // one float a row, or int32 where bytes have no units; null: zeros
  const void* group_bias = nullptr;  // the largest of each 16 rows; null where `bias` is
  const float* units = nullptr;      // of scaled bytes, one a query up to padded_queries(); null: ones
  // Null: hits are reported. Else nothing is: the best score of each 16 rows goes here, for 16 queries beside
  // each other, `groups` times for these before the next 16 queries; of the last rows only if they are 16.
  float* group_maxima = nullptr;
  std::int64_t groups = 0;
  // One a query, those behind the last one infinite up to padded_queries(); the sink may raise them.
  const float* thresholds = nullptr;
  std::byte* scratch = nullptr;  // scratch_bytes() of them, 64-byte aligned
};

/// What packing a vector has lost, in double.
struct PackedSquares {
  double values = 0;    // of what is stored
  double residual = 0;  // of what is not
};

/// What is known of a vector less a center, in double.
struct CenteredSums {
  double largest = 0;  // magnitude
  double squares = 0;  // summed in any order
};

/// An instruction set's products of planes.
struct PlaneScreen {
  std::string_view name;  // for the report
  /// values[i] = factor * x[i] - center[i]. @param center  null: zeros @param[out] values  d of them
  CenteredSums (*subtract_center)(const float* x, double factor, const float* center, std::int64_t d,
                                  double* values);
  /// Stores values as bytes.
  /// @param values  whole row tiles: zeros behind the last one
  /// @param scale   of one unit of the stored integers; 1 for bf16
  /// @param[out] bytes  row_tiles x 64
  PackedSquares (*quantize)(PlaneType type, const double* values, std::int64_t row_tiles, double scale,
                            std::byte* bytes);
  /// Brings 16 packed rows into the order of queries: words of 4 bytes that products read together.
  /// @param rows  16 x row_tiles x 64 @param[out] out  half a panel: every other of its tiles
  void (*interleave)(const std::byte* rows, std::int64_t row_tiles, std::byte* out);
  std::int64_t (*scratch_bytes)(std::int64_t n_queries, std::int64_t row_tiles);
  void (*run)(const PlaneTile& tile, CandidateSink& sink);
  /// For each of 16 columns a value that at least k of its rows reach, close to the k-th largest.
  /// @param values  rows x 16; k <= rows
  void (*kth_largest)(const float* values, std::int64_t rows, std::int64_t k, float* out);
};

}  // namespace mpishards::kernels::cpu

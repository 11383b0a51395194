#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/half.hpp"
#include "core/metric.hpp"
#include "kernels/score_cut.hpp"

// The arithmetic of a screen in binary16 with a power-of-two scale, shared by host and device.
//
// A vector v is held as its plane: w = binary16(v * 2^e), with one e for all base rows and one for each
// query; r = v * 2^e - w is its residual. For cosine, base rows are divided by their norm first. All norms
// here are of scaled vectors: that keeps them in float32's range whatever the data's.
namespace mpishards::kernels::cuda {

/// Largest scaled magnitudes lie in [2^(kTopExponent-1), 2^kTopExponent).
inline constexpr int kTopExponent = 14;

/// e for values up to max_abs. @pre max_abs is finite and not negative
MPISHARDS_HD inline int plane_exponent(float max_abs) {
  if (!(max_abs > 0)) return 0;
  int exponent = 0;
  std::frexp(max_abs, &exponent);
  return kTopExponent - exponent;
}

/// A scaled value in the plane, and what the plane leaves out.
struct PlaneValue {
  std::uint16_t bits;
  double value;     // of the bits
  double residual;  // exact: scaled - value
};
/// @pre |scaled| <= 2^kTopExponent
MPISHARDS_HD inline PlaneValue plane_value(double scaled) {
  const std::uint16_t bits = float_to_half(static_cast<float>(scaled));
  const double value = half_to_float(bits);
  return {bits, value, scaled - value};
}

/// Norms of a row's plane and residual, or the largest of several rows', rounded up.
struct RowBound {
  float plane_norm = 0;
  float residual_norm = 0;
};

/// @param plane_squares, residual_squares  as summed in double, in any order
/// @param scaled_error  of each scaled value itself, relative: 0 where the stored value is taken as it is
MPISHARDS_HD inline RowBound row_bound(double plane_squares, double residual_squares, std::int64_t d,
                                       double scaled_error) {
  const double plane = norm_range(plane_squares, d).high;
  const double residual = norm_range(residual_squares, d).high;
  return {round_up(plane), round_up(residual + scaled_error * (plane + residual))};
}

/// Of base rows divided by their norm in double: a division, a square root and a sum of d squares.
MPISHARDS_HD inline double unit_row_error(std::int64_t d) {
  return static_cast<double>(d + 16) * 0x1p-52;
}

/// Base rows that share a RowBound.
inline constexpr std::int64_t kBoundRows = 256;
/// Columns of a plane are padded to a multiple of this: the depth of one tensor core instruction.
inline constexpr std::int64_t kPlaneAlignment = 16;

/// A row that the screen could not exclude.
struct Candidate {
  float score;  // as screened
  std::uint32_t row;
};

/// A row whose distance is the exact one.
struct Neighbor {
  float distance;
  std::int64_t id;
};

/// What a query's screened scores mean.
///
/// Screened score = multiplier * (sum of plane products) + bias[row], in float32; it stands for
/// S * 2^score_exponent, S as in ScoreCut.
struct QueryBound {
  RowBound row;
  float multiplier = 1;
  int score_exponent = 0;
};

/// @param query_exponent, base_exponent  of the planes
MPISHARDS_HD inline QueryBound query_bound(Metric metric, const RowBound& row, int query_exponent,
                                           int base_exponent) {
  if (metric != Metric::l2) return {row, 1.0f, query_exponent + base_exponent};
  // |x|^2/2 in the base's own scale is what the product is brought to; beyond float32's range nothing is
  // proved.
  return {row, static_cast<float>(std::ldexp(1.0, base_exponent - query_exponent)), 2 * base_exponent};
}

/// E with |screened score - S * 2^score_exponent| <= E for all rows that `rows` bounds; infinite where the
/// screen proves nothing.
///
/// With plane norms Q, X and residual norms q, x: what the planes leave out is at most qX + Qx + qx by
/// Cauchy-Schwarz. Products of two binary16 numbers are exact in float32; sums of d of them, in any order and
/// also where each addition truncates, err by at most g QX with g = gamma(d, 2^-22). Then one rounding of the
/// bias and one of the fused multiply-add.
/// @param d  length of a plane row, with its padding
/// @param error_factor  1; tests weaken the bound to see that it bites
/// @par Source  P. Blanchard et al., Mixed precision block fused multiply-add, SIAM J. Sci. Comput., 2020
MPISHARDS_HD inline double half_screen_error(Metric metric, std::int64_t d, const QueryBound& query,
                                             const RowBound& rows, double error_factor = 1) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double g = rounding_gamma(d + 4, 0x1p-22);
  const double query_plane = query.row.plane_norm;
  const double query_residual = query.row.residual_norm;
  const double plane = rows.plane_norm;
  const double residual = rows.residual_norm;
  const double multiplier = query.multiplier;
  if (g == kInfinity || !(multiplier > 0x1p-60) || !(multiplier < 0x1p60)) return kInfinity;
  const double product = query_plane * plane;
  double error = query_residual * plane + query_plane * residual + query_residual * residual + g * product;
  if (metric == Metric::l2) {
    const double norm = plane + residual;
    error = multiplier * error + 0x1p-22 * (multiplier * product * (1 + g) + norm * norm);
  }
  return error * (1 + 0x1p-40) * error_factor + 0x1p-140;
}

/// A cut of ScoreCut in the units of screened scores.
MPISHARDS_HD inline double scaled_cut(double cut, const QueryBound& query) {
  return std::ldexp(cut, query.score_exponent);
}

/// Bounds of the exact score behind a screened one, in its units.
MPISHARDS_HD inline float lower_score(float score, double error) {
  const bool bounded = error < std::numeric_limits<double>::infinity() && std::abs(score) < 0x1p126f;
  return bounded ? round_down(score - error) : -std::numeric_limits<float>::infinity();
}
MPISHARDS_HD inline float upper_score(float score, double error) {
  const bool bounded = error < std::numeric_limits<double>::infinity() && std::abs(score) < 0x1p126f;
  return bounded ? round_up(score + error) : std::numeric_limits<float>::infinity();
}

}  // namespace mpishards::kernels::cuda

#pragma once

#include <cstdint>

#include "core/metric.hpp"
#include "kernels/score_cut.hpp"

namespace mpishards::kernels::cpu {

/// Largest values over a block of base rows.
struct RowMaxima {
  double norm = 0;
  double scale = 0;  // cosine: of 1/norm

  void include(const RowMaxima& other);
};

/// What one query's float32 scores prove.
class Certificate {
 public:
  Certificate() = default;
  /// @param query_squares  the defined sum q.q
  /// @param max_row_norm   at least the norm of every base row
  /// @param error_factor   1; tests weaken the bound to see that it bites
  Certificate(Metric metric, std::int64_t d, double query_squares, double max_row_norm,
              double error_factor = 1);

  /// E with |screened score - S| <= E for all rows of a block; infinite where float32 proves nothing.
  ///
  /// With u = 2^-24 and g = n*u/(1-n*u), any order of summation of d products has |fl(q.x) - q.x| <= g |q||x|
  /// by Cauchy-Schwarz, plus one half of the smallest subnormal for each product that underflows.
  double error(const RowMaxima& rows) const;

  /// Scores below which rows are out.
  const ScoreCut& cut() const { return cut_; }

 private:
  Metric metric_ = Metric::l2;
  double factor_ = 1;
  double gamma_ = 0;      // infinite where d is too large for the bound
  double underflow_ = 0;  // of all products of one dot product
  ScoreCut cut_;
};

}  // namespace mpishards::kernels::cpu

#pragma once

#include <cstdint>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "io/range.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Rows of the base that centroids are trained on: one out of each of `count` pieces of equal length, drawn
/// by a fixed seed. Sorted, different, and nowhere stored: every rank computes what it needs.
class TrainingSample {
 public:
  /// @pre 1 <= count <= rows, count < 2^31
  TrainingSample(std::int64_t rows, std::int64_t count) : rows_(rows), count_(count) {}

  std::int64_t count() const { return count_; }
  /// The i-th row. @pre 0 <= i < count()
  std::int64_t row(std::int64_t i) const;
  /// Which of them lie among some rows of the base. @par Cost log count
  io::Range within(io::Range rows) const;

  static constexpr std::uint64_t kSeed = 1234;

 private:
  std::int64_t rows_;
  std::int64_t count_;
};

/// Reads the sample's rows `which` as float32, of length 1 where metric is cosine; stretches of the file that
/// hold none are skipped. @return which.end - which.begin x d
/// @param threads  that read, where there is enough for them
/// @throws Error{data} naming file and row of a value that is not finite
Matrix read_sample(const io::VectorSource& base, const TrainingSample& sample, io::Range which, Metric metric,
                   int threads);

}  // namespace mpishards::rank

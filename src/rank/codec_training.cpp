#include "rank/codec_training.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "comm/agree.hpp"
#include "core/narrow.hpp"

namespace mpishards::rank {

namespace {

/// Lowest values of all dimensions, and behind them the highest.
std::vector<float> ranges_of(MatrixView<const float> rows) {
  const auto d = narrow<std::size_t>(rows.cols);
  std::vector<float> ranges(d, std::numeric_limits<float>::infinity());
  ranges.resize(2 * d, -std::numeric_limits<float>::infinity());
  for (std::int64_t r = 0; r < rows.rows; ++r)
    for (std::size_t i = 0; i < d; ++i) {
      ranges[i] = std::min(ranges[i], rows.row(r)[i]);
      ranges[d + i] = std::max(ranges[d + i], rows.row(r)[i]);
    }
  return ranges;
}

Matrix train_scalar(MatrixView<const float> mine, const comm::Communicator& comm) {
  constexpr double kSteps = 255;
  const std::vector<float> own = ranges_of(mine);
  const std::vector<std::int64_t> counts(narrow<std::size_t>(comm.size()), std::ssize(own));
  std::vector<float> all(own.size() * counts.size());
  comm.all_gather_floats(own, counts, all);
  const std::int64_t d = mine.cols;
  Matrix parameters(DType::f32, 2, d);
  const MatrixView<float> out = parameters.as<float>();
  for (std::int64_t i = 0; i < d; ++i) {
    float low = std::numeric_limits<float>::infinity();
    float high = -low;
    for (std::int64_t rank = 0; rank < comm.size(); ++rank) {
      low = std::min(low, all[narrow<std::size_t>(rank * 2 * d + i)]);
      high = std::max(high, all[narrow<std::size_t>(rank * 2 * d + d + i)]);
    }
    out.row(0)[i] = low;
    out.row(1)[i] = static_cast<float>((static_cast<double>(high) - static_cast<double>(low)) / kSteps);
  }
  return parameters;
}

Matrix columns_of(MatrixView<const float> rows, std::int64_t first, std::int64_t count) {
  Matrix columns(DType::f32, rows.rows, count);
  for (std::int64_t r = 0; r < rows.rows; ++r)
    std::copy_n(rows.row(r) + first, count, columns.as<float>().row(r));
  return columns;
}

}  // namespace

std::optional<Matrix> train_codec(const kernels::CodecShape& shape, const Matrix& mine,
                                  const KMeansConfig& means, const comm::Communicator& comm,
                                  const std::function<void()>& after_part) {
  const MatrixView<const float> rows = mine.view().as<float>();
  if (shape.is_scalar()) return train_scalar(rows, comm);
  KMeansConfig part_means = means;
  part_means.nlist = shape.codewords();
  part_means.metric = Metric::l2;
  const std::int64_t part_d = rows.cols / shape.parts;
  Matrix parameters(DType::f32, shape.codewords(), rows.cols);
  for (std::int64_t part = 0; part < shape.parts; ++part) {
    Matrix columns;
    comm::agree(comm, [&] { columns = columns_of(rows, part * part_d, part_d); });
    const std::optional<Matrix> words = train_centroids(std::move(columns), part_means, comm, {});
    if (!words) return std::nullopt;
    for (std::int64_t word = 0; word < shape.codewords(); ++word)
      std::copy_n(words->view().as<float>().row(word), part_d,
                  parameters.as<float>().row(word) + part * part_d);
    if (after_part && comm.is_root()) after_part();
  }
  return parameters;
}

}  // namespace mpishards::rank

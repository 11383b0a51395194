#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/index.hpp"

namespace mpishards::rank {

/// How centroids are trained.
struct KMeansConfig {
  std::int64_t nlist = 1;
  std::int64_t iterations = 10;
  Metric metric = Metric::l2;
  std::string engine = "cpu";  // a name that kernels::resolve_engine gives
  kernels::EngineOptions options;

  static constexpr int kSeed = 1234;
};

/// Trains nlist centroids on all ranks' rows: FAISS' k-means on root, whose every assignment of rows to
/// centroids is the work of all ranks, each for its own rows. Collective over comm.
///
/// The same bits for any number of ranks and threads, as long as the concatenation of all ranks' rows is the
/// same: assignments are exact, and the sums of rows are root's, in row order. For ip and cosine the
/// centroids have length 1 and rows go to the one with the largest inner product.
/// @param mine  this rank's rows, float32, finite; of length 1 for cosine. Given up on return.
/// @param after_iteration  called on root after every iteration; may be empty
/// @return nlist x d float32, on every rank; nothing where a stop was asked for
/// @throws Error, the same on every rank; Error{config} where there are fewer rows than centroids
/// @par Memory  on root all ranks' rows at once and 16 bytes for each of them
std::optional<Matrix> train_centroids(Matrix mine, const KMeansConfig& config, const comm::Communicator& comm,
                                      const std::function<void()>& after_iteration);

/// Finds the best centroid of every row, exactly; out[i] is its number.
/// @param index  built over the centroids @param[out] out  rows.rows numbers
void assign_to_centroids(kernels::Index& index, Metric metric, MatrixView<const float> rows,
                         std::int32_t* out);
/// Rows that assign_to_centroids searches at once.
inline constexpr std::int64_t kAssignPiece = 16384;

}  // namespace mpishards::rank

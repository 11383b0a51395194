#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "kernels/codec.hpp"
#include "rank/kmeans.hpp"

namespace mpishards::rank {

/// Rows that a codec is trained on, at most.
inline constexpr std::int64_t kCodecTrainingRows = 65536;

/// Finds the parameters of a codec from all ranks' rows: the codewords of each part by FAISS' k-means, or the
/// range of every dimension. The same bits for any number of ranks and threads, see train_centroids.
/// Collective over comm.
/// @param mine   this rank's rows as they will be coded, float32
/// @param means  iterations, engine and its options; the rest is chosen here
/// @param after_part  called on root when a part's codewords are found; may be empty
/// @return shape.parameter_rows() x d, on every rank; nothing where a stop was asked for
/// @throws Error, the same on every rank; Error{config} where there are fewer rows than codewords
std::optional<Matrix> train_codec(const kernels::CodecShape& shape, const Matrix& mine,
                                  const KMeansConfig& means, const comm::Communicator& comm,
                                  const std::function<void()>& after_part);

}  // namespace mpishards::rank

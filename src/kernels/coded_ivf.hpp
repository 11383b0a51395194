#pragma once

#include <cstdint>
#include <memory>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "kernels/codec.hpp"
#include "kernels/index.hpp"

namespace mpishards::kernels {

/// Inverted file whose rows are codes: what it finds are candidates, to be ranked again by the stored rows.
///
/// Its "base" are codes (rows x codec->code_bytes() of u8). A code is that of the row's difference from its
/// list's centroid for l2; for cosine the row has length 1 before; for ip it is that of the row itself. The
/// best k of the probed lists are found exactly in the order of the distance to the decoded row, which is
/// computed in float32 and the same to the bit for any cut of the lists into shards, any batch, any number of
/// threads and any kernel family; ties by smaller id.
/// @param centroids  all lists' of all shards; must outlive the index
/// @param codec      of d = centroids.cols
std::unique_ptr<Index> make_coded_ivf(Metric metric, const EngineOptions& options,
                                      std::shared_ptr<const Codec> codec, MatrixView<const float> centroids);

/// Whether codes are those of differences from the centroid.
bool codes_differences(Metric metric);

/// Makes the vector that is coded of a row in place. @param row d finite values
/// @param centroid  of the row's list
void prepare_for_code(Metric metric, const float* centroid, float* row, std::int64_t d);

/// Bytes of a search in codes: beside the codes, and while it runs, at most.
struct CodedSearchBytes {
  std::int64_t index_bytes = 0;
  std::int64_t scratch_bytes = 0;
};
CodedSearchBytes plan_coded_search(const CodecShape& codec, std::int64_t rows, std::int64_t d,
                                   std::int64_t n_lists, std::int64_t k, int threads);

}  // namespace mpishards::kernels

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/metric.hpp"
#include "io/index_directory.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::io {

/// Writes a FAISS IndexFlatL2 or IndexFlatIP; with ids in an IndexIDMap2. The rows are float32.
/// @pre metric is l2 or ip; nothing lies at the path that may not be replaced
/// @throws Error{cannot_create|permission|usage}
std::unique_ptr<VectorWriter> create_faiss_flat(const std::string& path, Metric metric, std::int64_t rows,
                                                std::int64_t d, bool with_ids);

/// Writes a FAISS IndexIVFFlat with these centroids. Rows are float32 and come in list order, and their ids.
/// @pre as above @throws as above
std::unique_ptr<VectorWriter> create_faiss_lists(const std::string& path, Metric metric,
                                                 const IndexLists& lists);

}  // namespace mpishards::io

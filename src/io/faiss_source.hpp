#pragma once

#include <memory>
#include <optional>

#include "io/vector_source.hpp"

namespace mpishards::io {

/// Opens a file of faiss::write_index as its vectors, in the order of the file: those of an IndexIVFFlat list
/// after list. See faiss_layout.hpp for what is known.
/// @throws as open_source
std::unique_ptr<VectorSource> open_faiss(const InputSpec& spec, std::optional<DType> dtype);

}  // namespace mpishards::io

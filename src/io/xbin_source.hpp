#pragma once

#include <memory>
#include <optional>

#include "io/vector_source.hpp"

namespace mpishards::io {

/// big-ann: uint32 n, uint32 d, then n x d elements of the suffix' dtype, little endian.
///
/// An .ibin may hold float32 distances behind its ids (big-ann ground truth); only the ids are read here.
/// @throws Error{data} unless the file has exactly the size that its header says
std::unique_ptr<VectorSource> open_xbin(const InputSpec& spec, std::optional<DType> dtype);

}  // namespace mpishards::io

#pragma once

#include <memory>
#include <optional>

#include "io/vector_source.hpp"

namespace mpishards::io {

/// NumPy array file, versions 1 to 3: two dimensions, C order, either byte order; the dtype is the file's.
/// @throws Error{data} on Fortran order, objects, other shapes or types, or a size that the header does not
/// say
std::unique_ptr<VectorSource> open_npy(const InputSpec& spec, std::optional<DType> dtype);

}  // namespace mpishards::io

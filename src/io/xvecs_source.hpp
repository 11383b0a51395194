#pragma once

#include <memory>
#include <optional>

#include "io/vector_source.hpp"

namespace mpishards::io {

/// TEXMEX: every row is int32 d and d elements of the suffix' dtype, little endian.
///
/// The first and last row are checked when the file is opened, the d of every other row when it is read.
/// @throws Error{data} on a d that is not positive or differs between rows, or a file that ends inside a row
std::unique_ptr<VectorSource> open_xvecs(const InputSpec& spec, std::optional<DType> dtype);

}  // namespace mpishards::io

#pragma once

#include <memory>
#include <optional>

#include "io/vector_source.hpp"

namespace mpishards::io {

/// HDF5 data set of two dimensions; the dtype is the file's. Without a data set in the spec it is `train`.
///
/// Contiguous data are read with pread at the offset that HDF5 reports, without its lock; chunked, filtered
/// and converted data through the library, in slabs of whole chunks, one thread at a time.
/// @throws Error{input_missing} where there is no such data set, listing those there are
/// @throws Error{data} on other shapes and types, storage outside this file, missing filters, or damage
std::unique_ptr<VectorSource> open_hdf5(const InputSpec& spec, std::optional<DType> dtype);

}  // namespace mpishards::io

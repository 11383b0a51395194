#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/types.hpp"
#include "io/vector_source.hpp"

namespace mpishards::io {

/// One suffix: what it is called, the dtype that it implies (none: the file says), and how it is opened.
struct SuffixRow {
  FormatRow format;
  std::optional<DType> dtype;
  std::unique_ptr<VectorSource> (*open)(const InputSpec& spec, std::optional<DType> dtype);
};

/// The row of a path's suffix, upper or lower case. @throws Error{usage} listing the known suffixes
const SuffixRow& suffix_row_of(const std::string& path);

/// Name of the format that a path's suffix says; empty for an unknown one.
std::string_view format_of(const std::string& path);

/// True for the suffixes of HDF5 files.
bool is_hdf5_path(const std::string& path);

}  // namespace mpishards::io

#pragma once

#include <string>
#include <vector>

namespace mpishards::io {

/// Paths of the data sets in an HDF5 file ("/train", "/test"), at most a few hundred; empty for other
/// formats.
/// @throws Error{input_missing|permission|data}
std::vector<std::string> list_datasets(const std::string& path);

/// Path of the data set `ids` that may lie beside the vectors of `dataset`.
std::string ids_beside(const std::string& dataset);

}  // namespace mpishards::io

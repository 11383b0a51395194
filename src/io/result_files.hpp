#pragma once

#include <string>
#include <vector>

#include "io/results_writer.hpp"

namespace mpishards::io {

/// The files of one result under their final names: the arrays' files (one or two) and the attributes' (or
/// none).
struct ResultFiles {
  std::vector<std::string> arrays;
  std::string attributes;
};
ResultFiles files_of(const std::string& out_path, ResultFormat format);

/// Name of one of these files while it is unfinished.
std::string partial_of(const std::string& path);

/// Where the bytes around the arrays of an HDF5 result are kept while a publication changes them.
std::string saved_metadata_of(const std::string& out_path);

/// Folder of a file, "." where its name has none.
std::string folder_of(const std::string& path);

}  // namespace mpishards::io

#pragma once

#include <string>

#include "io/index_directory.hpp"

namespace mpishards::app {

/// Writes an index directory as a FAISS file: its lists as an IndexIVFFlat with its centroids, a flat index
/// as an IndexFlat, with the ids. Codes stay behind, which is said on stderr; so is that rows of a cosine
/// index get length 1, because FAISS has no cosine.
/// @return what was written
/// @throws Error{data} naming a damaged file of the index; Error{usage|cannot_create} where the output can't
/// be
/// @par Cost  reads and writes every row once, with the centroids and blocks of rows in memory
io::IndexManifest export_index(const std::string& directory, const std::string& out_path, bool overwrite);

/// Says on stderr that rows are written with length 1.
void say_unit_length(const std::string& out_path);

}  // namespace mpishards::app

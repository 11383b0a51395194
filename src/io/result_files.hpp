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

/// A publication may have been killed between or after its renames: takes the final names back.
void undo_publication(const std::string& out_path, ResultFormat format);

/// Opens an unfinished file that rank 0 made. @throws Error{io} where this host doesn't see it
File open_shared_output(const std::string& path);

/// Returns what `make` makes of OUT.partial, where one can lie and none is left over; if it throws, nothing
/// stays. @throws Error{cannot_create|permission}
template <class Make>
auto make_output(const std::string& out_path, ResultFormat format, const Make& make) {
  require_output_place(out_path);
  remove_partial(out_path, format);
  try {
    return make();
  } catch (...) {
    remove_partial(out_path, format);
    throw;
  }
}

/// Folder of a file, "." where its name has none.
std::string folder_of(const std::string& path);

}  // namespace mpishards::io

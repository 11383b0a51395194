#pragma once

#include <string>
#include <vector>

#include "io/file.hpp"
#include "io/hdf5_handle.hpp"

namespace mpishards::io {

/// @throws Error{data} saying what the file starts with, unless HDF5's signature stands at byte 0, 512, 1024,
/// ...
void require_hdf5_signature(const File& file);
/// False too where there is no file. @pre the caller does not hold the Hdf5Lock
bool has_hdf5_signature(const std::string& path);

/// Paths of the data sets in a file ("/train"), at most a few hundred. Links to other files are not followed.
/// @pre the caller holds the Hdf5Lock
std::vector<std::string> list_hdf5_datasets(const H5File& file, const std::string& path);

/// True where the path leads to a data set. @pre the caller holds the Hdf5Lock
/// @throws Error{data} where it leads to something else or into another file
bool has_hdf5_dataset(const H5File& file, const std::string& path, const std::string& dataset);

/// "a.h5 has no data set tran; it has /train, /test; did you mean /train?"
/// @pre the caller holds the Hdf5Lock
[[noreturn]] void throw_missing_dataset(const H5File& file, const std::string& path,
                                        const std::string& dataset);

/// Properties to open a data set with that refuse to follow links into other files.
H5Plist hdf5_dataset_access();

}  // namespace mpishards::io

#pragma once

#include <string>

#include "io/hdf5_handle.hpp"
#include "io/results_writer.hpp"

namespace mpishards::io {

/// Sets attributes of the root group of PATH, replacing those of the same name. @throws Error{io}
void set_hdf5_attributes(const std::string& path, const Attributes& attributes);

/// Those of the root group that are one integer, number or text. @pre the caller holds the Hdf5Lock
/// @throws Error{data}
Attributes read_hdf5_attributes(const H5File& file, const std::string& path);

}  // namespace mpishards::io

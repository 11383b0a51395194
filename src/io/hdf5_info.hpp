#pragma once

#include <string>
#include <vector>

namespace mpishards::io {

/// The HDF5 library that this process runs with.
struct Hdf5Info {
  std::string version;    // "1.10.8"
  bool parallel = false;  // built for MPI
  bool thread_safe = false;
  std::vector<std::string>
      filters;  // of those that files are commonly written with, the ones that can be read
  std::vector<std::string> missing_filters;
};
Hdf5Info hdf5_info();

}  // namespace mpishards::io

#pragma once

#include <cstdint>
#include <string>

#include "io/results_writer.hpp"

/// The HDF5 forms of an unfinished result: a file with two contiguous arrays that ranks fill without HDF5. h5
/// has `neighbors` and `distances`, nq x k; csr has `indices` and `data`, nq * k long, and `indptr`, complete
/// at once.
namespace mpishards::io {

inline bool is_hdf5(ResultFormat format) {
  return format == ResultFormat::h5 || format == ResultFormat::csr;
}

/// Creates OUT.partial with space for the ids and distances, unfilled. @pre is_hdf5(format)
/// @throws Error{cannot_create|permission}
void create_hdf5_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k);

/// Where the ids and distances of PATH lie. @throws Error{data} unless they are contiguous and nq x k
ResultLayout hdf5_layout(const std::string& path, ResultFormat format, std::int64_t nq, std::int64_t k);

/// Saves every byte of OUT.partial outside its arrays. HDF5 changes some of them in place when attributes
/// are set, and a process killed meanwhile would leave a file that can't be opened again.
void save_metadata(const std::string& out_path);

/// Brings OUT.partial back to what it was before a publication that was killed.
void reopen_hdf5_output(const std::string& out_path);

}  // namespace mpishards::io

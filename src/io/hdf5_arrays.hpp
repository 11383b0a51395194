#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/types.hpp"
#include "io/hdf5_handle.hpp"
#include "io/range.hpp"

/// Arrays of an unfinished HDF5 output: contiguous and allocated at creation, so that any process can fill
/// its part of them with pwrite, without HDF5.
namespace mpishards::io {

struct ArrayPlan {
  std::string name;
  DType type;
  std::vector<hsize_t> shape;

  std::int64_t bytes() const;
};

/// Creates a file with these arrays, unfilled, and reserves their space, so that a full disk is noticed now.
/// What lies under that name is replaced. @throws Error{cannot_create|permission}
void create_hdf5_arrays(const std::string& path, const std::vector<ArrayPlan>& arrays);
/// The same under the name PATH.partial.
void create_hdf5_output(const std::string& out_path, const std::vector<ArrayPlan>& arrays);

/// Where an array lies in the file. @pre the caller holds the Hdf5Lock
/// @throws Error{data} unless it is contiguous, of this shape and element size
Range bytes_of_array(const H5File& file, const std::string& path, const ArrayPlan& array);

/// Where all arrays of a file lie, by their begin. @throws Error{data} unless every object of the root group
/// is a contiguous array
std::vector<Range> bytes_of_arrays(const std::string& path);

/// Shape of an open array. @pre the caller holds the Hdf5Lock
std::vector<hsize_t> shape_of(const H5Dataset& array, const std::string& subject);

/// Whether a finished file has a data set. @pre the caller holds the Hdf5Lock
bool has_array(const H5File& file, const std::string& path, const char* name);

/// Opens a data set of a finished file whose elements are integers (H5T_INTEGER) or floating-point numbers
/// (H5T_FLOAT), of any width. @pre the caller holds the Hdf5Lock @throws Error{data}
H5Dataset open_array(const H5File& file, const std::string& path, const char* name, H5T_class_t wanted);

/// Elements of a data set with one dimension. @pre the caller holds the Hdf5Lock
/// @throws Error{data} if it has another number of dimensions
std::int64_t vector_length(const H5Dataset& array, const std::string& path, const char* name);

/// Reads elements [begin, begin + count) of a data set with one dimension. @param native  type in memory
/// @throws Error{data}
void read_vector(const H5Dataset& array, hid_t native, std::int64_t begin, std::size_t count, void* out,
                 const std::string& path);

}  // namespace mpishards::io

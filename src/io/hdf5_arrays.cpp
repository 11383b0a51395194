#include "io/hdf5_arrays.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/disk_space.hpp"
#include "io/file.hpp"
#include "io/hdf5_types.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

std::string to_string(const std::vector<hsize_t>& shape) {
  std::string text;
  for (const hsize_t length : shape) text += (text.empty() ? "" : " x ") + std::to_string(length);
  return text;
}

/// Adds a contiguous array whose space is allocated now and filled by nobody, without time stamps.
void add_array(const H5File& file, const std::string& path, const ArrayPlan& array) {
  const H5Plist properties(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", path);
  check_hdf5(H5Pset_layout(properties.get(), H5D_CONTIGUOUS), "H5Pset_layout", path);
  check_hdf5(H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time", path);
  check_hdf5(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time", path);
  check_hdf5(H5Pset_obj_track_times(properties.get(), false), "H5Pset_obj_track_times", path);
  const H5Space space(H5Screate_simple(narrow<int>(array.shape.size()), array.shape.data(), nullptr),
                      "H5Screate_simple", path);
  const std::string subject = path + ":" + array.name;
  const H5Type type = hdf5_stored_type(array.type);
  const H5Dataset created(H5Dcreate2(file.get(), array.name.c_str(), type.get(), space.get(), H5P_DEFAULT,
                                     properties.get(), H5P_DEFAULT),
                          "H5Dcreate2", subject, ErrorKind::cannot_create);
  if (array.type == DType::bf16) mark_bfloat16(created, subject);
}

void create_file(const std::string& path, const std::vector<ArrayPlan>& arrays) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  // Page-aligned arrays: slices of different ranks then share as few file system blocks as possible.
  check_hdf5(H5Pset_alignment(access.get(), 4096, 4096), "H5Pset_alignment", path);
  H5File file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate", path,
              ErrorKind::cannot_create);
  for (const ArrayPlan& array : arrays) add_array(file, path, array);
  file.close(path);
}

/// Where an open array of so many bytes lies.
Range place_of(const H5Dataset& array, const std::string& subject, hsize_t bytes) {
  if (bytes == 0) return {0, 0};
  const haddr_t offset = H5Dget_offset(array.get());
  if (offset == HADDR_UNDEF)
    throw Error(ErrorKind::data, subject + " has no space in the file; --no-resume starts over");
  return {narrow<std::int64_t>(offset), narrow<std::int64_t>(offset + bytes)};
}

hsize_t element_bytes(const H5Dataset& array, const std::string& subject) {
  const H5Type type(H5Dget_type(array.get()), "H5Dget_type", subject);
  return H5Tget_size(type.get());
}

hsize_t product(const std::vector<hsize_t>& shape) {
  hsize_t elements = 1;
  for (const hsize_t length : shape) elements *= length;
  return elements;
}

std::string name_of_link(const H5File& file, const std::string& path, hsize_t index) {
  const auto name = [&](char* out, std::size_t size) {
    return check_hdf5(
        H5Lget_name_by_idx(file.get(), ".", H5_INDEX_NAME, H5_ITER_INC, index, out, size, H5P_DEFAULT),
        "H5Lget_name_by_idx", path);
  };
  std::string text(narrow<std::size_t>(name(nullptr, 0)), '\0');
  name(text.data(), text.size() + 1);
  return text;
}

}  // namespace

std::int64_t ArrayPlan::bytes() const {
  return narrow<std::int64_t>(product(shape) * size_bytes(type));
}

void create_hdf5_arrays(const std::string& path, const std::vector<ArrayPlan>& arrays) {
  std::int64_t bytes = 0;
  for (const ArrayPlan& array : arrays) bytes += array.bytes();
  require_free_space(folder_of(path), bytes);
  const File file = File::open_write(path, true);  // first, for its clear errors
  create_file(path, arrays);
  reserve(file, file.size_bytes());
}

void create_hdf5_output(const std::string& out_path, const std::vector<ArrayPlan>& arrays) {
  create_hdf5_arrays(partial_of(out_path), arrays);
}

Range bytes_of_array(const H5File& file, const std::string& path, const ArrayPlan& array) {
  const std::string subject = path + ":" + array.name;
  const H5Dataset dataset(H5Dopen2(file.get(), array.name.c_str(), H5P_DEFAULT), "H5Dopen2", subject);
  const std::vector<hsize_t> shape = shape_of(dataset, subject);
  if (shape != array.shape || element_bytes(dataset, subject) != size_bytes(array.type))
    throw Error(ErrorKind::data, subject + " is " + to_string(shape) + ", expected " +
                                     to_string(array.shape) + "; --no-resume starts over");
  return place_of(dataset, subject, narrow<hsize_t>(array.bytes()));
}

std::vector<Range> bytes_of_arrays(const std::string& path) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  H5G_info_t root{};
  check_hdf5(H5Gget_info(file.get(), &root), "H5Gget_info", path);
  std::vector<Range> arrays;
  for (hsize_t i = 0; i < root.nlinks; ++i) {
    const std::string name = name_of_link(file, path, i);
    const std::string subject = path + ":" + name;
    const H5Dataset array(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), "H5Dopen2", subject);
    arrays.push_back(
        place_of(array, subject, product(shape_of(array, subject)) * element_bytes(array, subject)));
  }
  std::ranges::sort(arrays, {}, &Range::begin);
  return arrays;
}

std::vector<hsize_t> shape_of(const H5Dataset& array, const std::string& subject) {
  const H5Space space(H5Dget_space(array.get()), "H5Dget_space", subject);
  std::vector<hsize_t> shape(narrow<std::size_t>(H5Sget_simple_extent_ndims(space.get())));
  check_hdf5(H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr), "H5Sget_simple_extent_dims",
             subject);
  return shape;
}

bool has_array(const H5File& file, const std::string& path, const char* name) {
  return check_hdf5(H5Lexists(file.get(), name, H5P_DEFAULT), "H5Lexists", path) > 0;
}

H5Dataset open_array(const H5File& file, const std::string& path, const char* name, H5T_class_t wanted) {
  const std::string subject = path + ":" + name;
  if (!has_array(file, path, name))
    throw Error(ErrorKind::data, path + " has no data set '" + name +
                                     "'; expected a result of mpishards or an ann-benchmarks file");
  H5Dataset array(H5Dopen2(file.get(), name, H5P_DEFAULT), "H5Dopen2", subject);
  const H5Type type(H5Dget_type(array.get()), "H5Dget_type", subject);
  if (H5Tget_class(type.get()) != wanted)
    throw Error(ErrorKind::data, subject + " does not hold " +
                                     (wanted == H5T_INTEGER ? "integers" : "floating-point numbers"));
  return array;
}

std::int64_t vector_length(const H5Dataset& array, const std::string& path, const char* name) {
  const std::vector<hsize_t> shape = shape_of(array, path + ":" + name);
  if (shape.size() != 1) throw Error(ErrorKind::data, path + ":" + name + " is no vector");
  return narrow<std::int64_t>(shape.front());
}

void read_vector(const H5Dataset& array, hid_t native, std::int64_t begin, std::size_t count, void* out,
                 const std::string& path) {
  const Hdf5Lock lock;
  const auto start = narrow<hsize_t>(begin);
  const hsize_t length = count;
  const H5Space in_file(H5Dget_space(array.get()), "H5Dget_space", path);
  check_hdf5(H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, &start, nullptr, &length, nullptr),
             "H5Sselect_hyperslab", path);
  const H5Space in_memory(H5Screate_simple(1, &length, nullptr), "H5Screate_simple", path);
  check_hdf5(H5Dread(array.get(), native, in_memory.get(), in_file.get(), H5P_DEFAULT, out), "H5Dread", path);
}

}  // namespace mpishards::io

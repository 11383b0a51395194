#include "io/result_hdf5.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/hdf5_handle.hpp"
#include "io/range.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

using Shape = std::vector<hsize_t>;

constexpr const char* kIndptr = "indptr";

/// The arrays of ids and of distances.
struct ArrayNames {
  const char* neighbors;
  const char* distances;
};

ArrayNames names_of(ResultFormat format) {
  if (format == ResultFormat::csr) return {"indices", "data"};
  return {"neighbors", "distances"};
}

Shape shape_of(ResultFormat format, std::int64_t nq, std::int64_t k) {
  if (format == ResultFormat::csr) return {narrow<hsize_t>(nq * k)};
  return {narrow<hsize_t>(nq), narrow<hsize_t>(k)};
}

std::string to_string(const Shape& shape) {
  std::string text;
  for (const hsize_t length : shape) text += (text.empty() ? "" : " x ") + std::to_string(length);
  return text;
}

/// Adds a contiguous array whose space is allocated now and filled by nobody, without time stamps.
void add_array(const H5File& file, const std::string& path, const char* name, hid_t type,
               const Shape& shape) {
  const H5Plist properties(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", path);
  check_hdf5(H5Pset_layout(properties.get(), H5D_CONTIGUOUS), "H5Pset_layout", path);
  check_hdf5(H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time", path);
  check_hdf5(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time", path);
  check_hdf5(H5Pset_obj_track_times(properties.get(), false), "H5Pset_obj_track_times", path);
  const H5Space space(H5Screate_simple(narrow<int>(shape.size()), shape.data(), nullptr), "H5Screate_simple",
                      path);
  const H5Dataset array(
      H5Dcreate2(file.get(), name, type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "H5Dcreate2", path + ":" + name, ErrorKind::cannot_create);
}

H5Dataset open_array(const H5File& file, const std::string& path, const char* name) {
  return H5Dataset(H5Dopen2(file.get(), name, H5P_DEFAULT), "H5Dopen2", path + ":" + name);
}

Shape shape_of(const H5Dataset& array, const std::string& subject) {
  const H5Space space(H5Dget_space(array.get()), "H5Dget_space", subject);
  Shape shape(narrow<std::size_t>(H5Sget_simple_extent_ndims(space.get())));
  check_hdf5(H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr), "H5Sget_simple_extent_dims",
             subject);
  return shape;
}

/// Where an array lies in the file. @throws Error{data} unless it is contiguous, of this shape and element
/// size
Range bytes_of_array(const H5File& file, const std::string& path, const char* name, const Shape& expected,
                     std::size_t element_bytes) {
  const std::string subject = path + ":" + name;
  const H5Dataset array = open_array(file, path, name);
  const H5Type type(H5Dget_type(array.get()), "H5Dget_type", subject);
  const Shape shape = shape_of(array, subject);
  if (shape != expected || H5Tget_size(type.get()) != element_bytes)
    throw Error(ErrorKind::data, subject + " is " + to_string(shape) + ", expected " + to_string(expected) +
                                     "; --no-resume starts over");
  hsize_t bytes = element_bytes;
  for (const hsize_t length : shape) bytes *= length;
  if (bytes == 0) return {0, 0};
  const haddr_t offset = H5Dget_offset(array.get());
  if (offset == HADDR_UNDEF)
    throw Error(ErrorKind::data, subject + " has no space in the file; --no-resume starts over");
  return {narrow<std::int64_t>(offset), narrow<std::int64_t>(offset + bytes)};
}

/// Where the row starts of a sparse matrix of nq rows lie.
Range bytes_of_indptr(const H5File& file, const std::string& path, std::int64_t nq) {
  return bytes_of_array(file, path, kIndptr, {narrow<hsize_t>(nq + 1)}, sizeof(std::int64_t));
}

/// Fills the row starts of a sparse matrix whose rows have k entries each.
void write_indptr(const std::string& path, std::int64_t nq, std::int64_t k) {
  constexpr std::int64_t kBlockRows = 1 << 20;
  const std::int64_t offset = bytes_of_indptr(open_hdf5_read(path), path, nq).begin;
  const File file = File::open_write(path, false);
  for (std::int64_t begin = 0; begin <= nq; begin += kBlockRows) {
    std::vector<std::int64_t> starts(narrow<std::size_t>(std::min(kBlockRows, nq + 1 - begin)));
    for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = (begin + static_cast<std::int64_t>(i)) * k;
    file.write_at(offset + begin * std::int64_t{sizeof(std::int64_t)}, starts.data(),
                  starts.size() * sizeof(std::int64_t));
  }
}

struct SetAttribute {
  const H5File& file;
  const std::string& path;
  const std::string& name;

  void operator()(std::int64_t value) const { write(H5T_STD_I64LE, H5T_NATIVE_INT64, &value); }
  void operator()(double value) const { write(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value); }
  void operator()(const std::string& value) const {
    // Variable length: its text lies outside the object header, where attributes end at 64 KiB.
    const H5Type type(H5Tcopy(H5T_C_S1), "H5Tcopy", path);
    check_hdf5(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size", path);
    check_hdf5(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset", path);
    const char* text = value.c_str();
    write(type.get(), type.get(), &text);
  }

 private:
  void write(hid_t stored, hid_t native, const void* value) const {
    const std::string subject = path + " attribute " + name;
    if (check_hdf5(H5Aexists(file.get(), name.c_str()), "H5Aexists", subject, ErrorKind::io) > 0)
      check_hdf5(H5Adelete(file.get(), name.c_str()), "H5Adelete", subject, ErrorKind::io);
    const H5Space space(H5Screate(H5S_SCALAR), "H5Screate", subject, ErrorKind::io);
    const H5Attribute attribute(
        H5Acreate2(file.get(), name.c_str(), stored, space.get(), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2",
        subject, ErrorKind::io);
    check_hdf5(H5Awrite(attribute.get(), native, value), "H5Awrite", subject, ErrorKind::io);
  }
};

/// Queries and neighbors a query of an unfinished result, for those who know only its path.
std::pair<std::int64_t, std::int64_t> size_of_result(const H5File& file, const std::string& path,
                                                     ResultFormat format) {
  const auto length = [&](const char* name, std::size_t dimension) {
    return narrow<std::int64_t>(shape_of(open_array(file, path, name), path + ":" + name).at(dimension));
  };
  if (format != ResultFormat::csr) return {length("neighbors", 0), length("neighbors", 1)};
  const std::int64_t nq = length(kIndptr, 0) - 1;
  return {nq, length("indices", 0) / std::max<std::int64_t>(nq, 1)};
}

ResultLayout layout_of(const H5File& file, const std::string& path, ResultFormat format, std::int64_t nq,
                       std::int64_t k) {
  const ArrayNames names = names_of(format);
  const Shape shape = shape_of(format, nq, k);
  ResultLayout layout{path, path, 0, 0, nq, k, sizeof(GlobalId), false};
  layout.neighbors_offset = bytes_of_array(file, path, names.neighbors, shape, sizeof(GlobalId)).begin;
  layout.distances_offset = bytes_of_array(file, path, names.distances, shape, sizeof(float)).begin;
  return layout;
}

/// Where all arrays of an unfinished result lie, in order.
std::vector<Range> bytes_of_arrays(const std::string& path, ResultFormat format) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  const auto [nq, k] = size_of_result(file, path, format);
  const ResultLayout layout = layout_of(file, path, format, nq, k);
  std::vector<Range> arrays = {{layout.neighbors_offset, layout.neighbors_offset + layout.neighbors_bytes()},
                               {layout.distances_offset, layout.distances_offset + layout.distances_bytes()}};
  if (format == ResultFormat::csr) arrays.push_back(bytes_of_indptr(file, path, nq));
  std::ranges::sort(arrays, {}, &Range::begin);
  return arrays;
}

}  // namespace

ResultLayout hdf5_layout(const std::string& path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  return layout_of(open_hdf5_read(path), path, format, nq, k);
}

void create_hdf5_result(const std::string& path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  // Page-aligned arrays: slices of different ranks then share as few file system blocks as possible.
  check_hdf5(H5Pset_alignment(access.get(), 4096, 4096), "H5Pset_alignment", path);
  H5File file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate", path,
              ErrorKind::cannot_create);
  const ArrayNames names = names_of(format);
  const Shape shape = shape_of(format, nq, k);
  if (format == ResultFormat::csr) add_array(file, path, kIndptr, H5T_STD_I64LE, {narrow<hsize_t>(nq + 1)});
  add_array(file, path, names.neighbors, H5T_STD_I64LE, shape);
  add_array(file, path, names.distances, H5T_IEEE_F32LE, shape);
  file.close(path);
  if (format == ResultFormat::csr) write_indptr(path, nq, k);
}

void set_hdf5_attributes(const std::string& path, const Attributes& attributes) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  H5File file(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), "H5Fopen", path, ErrorKind::io);
  for (const auto& [name, value] : attributes) std::visit(SetAttribute{file, path, name}, value);
  file.close(path);
}

void save_metadata(const std::string& out_path, ResultFormat format) {
  const std::string path = partial_of(out_path);
  const File file = File::open_read(path);
  nlohmann::json saved = {{"size_bytes", file.size_bytes()}, {"pieces", nlohmann::json::array()}};
  std::int64_t begin = 0;
  const auto save_until = [&](std::int64_t end) {
    if (begin >= end) return;
    std::vector<std::uint8_t> bytes(narrow<std::size_t>(end - begin));
    file.read_at(begin, bytes.data(), bytes.size());
    saved["pieces"].push_back({{"offset", begin}, {"bytes", bytes}});
  };
  for (const Range& array : bytes_of_arrays(path, format)) {
    save_until(array.begin);
    begin = array.end;
  }
  save_until(file.size_bytes());
  write_text_atomically(saved_metadata_of(out_path), saved.dump());
}

void restore_metadata(const std::string& out_path) {
  const std::string saved_path = saved_metadata_of(out_path);
  if (!exists(saved_path)) return;
  const nlohmann::json saved = nlohmann::json::parse(read_text(saved_path), nullptr, false);
  if (saved.is_discarded()) throw Error(ErrorKind::data, saved_path + " is damaged; --no-resume starts over");
  const File file = File::open_write(partial_of(out_path), false);
  for (const nlohmann::json& piece : saved.at("pieces")) {
    const auto bytes = piece.at("bytes").get<std::vector<std::uint8_t>>();
    file.write_at(piece.at("offset").get<std::int64_t>(), bytes.data(), bytes.size());
  }
  if (::ftruncate(file.get(), saved.at("size_bytes").get<std::int64_t>()) != 0)
    throw Error(ErrorKind::io, "can't shorten " + file.path() + ": " + std::strerror(errno));
  file.sync();
  std::filesystem::remove(saved_path);
}

}  // namespace mpishards::io

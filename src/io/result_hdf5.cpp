#include "io/result_hdf5.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/hdf5_handle.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

constexpr const char* kNeighbors = "neighbors";
constexpr const char* kDistances = "distances";

/// Adds a contiguous array whose space is allocated now and filled by nobody, without time stamps.
void add_array(const H5File& file, const std::string& path, const char* name, hid_t type, std::int64_t nq,
               std::int64_t k) {
  const H5Plist properties(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", path);
  check_hdf5(H5Pset_layout(properties.get(), H5D_CONTIGUOUS), "H5Pset_layout", path);
  check_hdf5(H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time", path);
  check_hdf5(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time", path);
  check_hdf5(H5Pset_obj_track_times(properties.get(), false), "H5Pset_obj_track_times", path);
  const hsize_t shape[2] = {narrow<hsize_t>(nq), narrow<hsize_t>(k)};
  const H5Space space(H5Screate_simple(2, shape, nullptr), "H5Screate_simple", path);
  const H5Dataset array(
      H5Dcreate2(file.get(), name, type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT),
      "H5Dcreate2", path + ":" + name, ErrorKind::cannot_create);
}

/// Offset of an array in the file. @throws Error{data} unless it is contiguous, of this shape and element
/// size
std::int64_t array_offset(const H5File& file, const std::string& path, const char* name, std::int64_t nq,
                          std::int64_t k, std::size_t element_bytes) {
  const std::string subject = path + ":" + name;
  const H5Dataset array(H5Dopen2(file.get(), name, H5P_DEFAULT), "H5Dopen2", subject);
  const H5Space space(H5Dget_space(array.get()), "H5Dget_space", subject);
  const H5Type type(H5Dget_type(array.get()), "H5Dget_type", subject);
  hsize_t shape[2] = {0, 0};
  const bool two_dimensional = H5Sget_simple_extent_ndims(space.get()) == 2;
  if (two_dimensional) check_hdf5(H5Sget_simple_extent_dims(space.get(), shape, nullptr), "dims", subject);
  if (!two_dimensional || shape[0] != narrow<hsize_t>(nq) || shape[1] != narrow<hsize_t>(k) ||
      H5Tget_size(type.get()) != element_bytes)
    throw Error(ErrorKind::data, subject + " is " + std::to_string(shape[0]) + " x " +
                                     std::to_string(shape[1]) + ", expected " + std::to_string(nq) + " x " +
                                     std::to_string(k) + "; --no-resume starts over");
  const haddr_t offset = H5Dget_offset(array.get());
  if (offset == HADDR_UNDEF && nq > 0)
    throw Error(ErrorKind::data, subject + " has no space in the file; --no-resume starts over");
  return nq > 0 ? narrow<std::int64_t>(offset) : 0;
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

/// Shape of an unfinished HDF5 result, for those who know only its path.
std::pair<std::int64_t, std::int64_t> hdf5_shape(const std::string& path) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  const H5Dataset array(H5Dopen2(file.get(), kNeighbors, H5P_DEFAULT), "H5Dopen2", path);
  const H5Space space(H5Dget_space(array.get()), "H5Dget_space", path);
  hsize_t shape[2] = {0, 0};
  check_hdf5(H5Sget_simple_extent_dims(space.get(), shape, nullptr), "H5Sget_simple_extent_dims", path);
  return {narrow<std::int64_t>(shape[0]), narrow<std::int64_t>(shape[1])};
}

}  // namespace

ResultLayout hdf5_layout(const std::string& path, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  ResultLayout layout{path, path, 0, 0, nq, k, sizeof(GlobalId), false};
  layout.neighbors_offset = array_offset(file, path, kNeighbors, nq, k, sizeof(GlobalId));
  layout.distances_offset = array_offset(file, path, kDistances, nq, k, sizeof(float));
  return layout;
}

void create_hdf5_result(const std::string& path, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  // Page-aligned arrays: slices of different ranks then share as few file system blocks as possible.
  check_hdf5(H5Pset_alignment(access.get(), 4096, 4096), "H5Pset_alignment", path);
  H5File file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate", path,
              ErrorKind::cannot_create);
  add_array(file, path, kNeighbors, H5T_STD_I64LE, nq, k);
  add_array(file, path, kDistances, H5T_IEEE_F32LE, nq, k);
  file.close(path);
}

void set_hdf5_attributes(const std::string& path, const Attributes& attributes) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  H5File file(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), "H5Fopen", path, ErrorKind::io);
  for (const auto& [name, value] : attributes) std::visit(SetAttribute{file, path, name}, value);
  file.close(path);
}

void save_metadata(const std::string& out_path) {
  const std::string path = partial_of(out_path);
  const auto [nq, k] = hdf5_shape(path);
  const ResultLayout layout = hdf5_layout(path, nq, k);
  const File file = File::open_read(path);
  nlohmann::json saved = {{"size_bytes", file.size_bytes()}, {"pieces", nlohmann::json::array()}};
  const auto save = [&](std::int64_t begin, std::int64_t end) {
    if (begin >= end) return;
    std::vector<std::uint8_t> bytes(narrow<std::size_t>(end - begin));
    file.read_at(begin, bytes.data(), bytes.size());
    saved["pieces"].push_back({{"offset", begin}, {"bytes", bytes}});
  };
  save(0, layout.neighbors_offset);
  save(layout.neighbors_offset + layout.neighbors_bytes(), layout.distances_offset);
  save(layout.distances_offset + layout.distances_bytes(), file.size_bytes());
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

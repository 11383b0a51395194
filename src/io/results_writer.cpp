#include "io/results_writer.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/hdf5_handle.hpp"

namespace mpishards::io {

namespace {

static_assert(std::endian::native == std::endian::little, "all three formats are little-endian on disk");

struct FormatRow {
  ResultFormat format;
  std::string_view name;
  std::string_view suffix;
};

constexpr FormatRow kFormats[] = {
    {ResultFormat::h5, "h5", ".h5"},
    {ResultFormat::npy, "npy", ".npy"},
    {ResultFormat::ibin, "ibin", ".ibin"},
};

constexpr std::int64_t kIbinHeaderBytes = 8;

/// The files of one result under their final names: the arrays' files (one or two) and the attributes' (or
/// none).
struct ResultFiles {
  std::vector<std::string> arrays;
  std::string attributes;
};

ResultFiles files_of(const std::string& out_path, ResultFormat format) {
  switch (format) {
    case ResultFormat::h5:
      return {{out_path}, ""};
    case ResultFormat::ibin:
      return {{out_path}, out_path + ".attributes.json"};
    case ResultFormat::npy:
      break;
  }
  const std::string stem = out_path.ends_with(".npy") ? out_path.substr(0, out_path.size() - 4) : out_path;
  return {{stem + ".neighbors.npy", stem + ".distances.npy"}, out_path + ".attributes.json"};
}

std::string partial_of(const std::string& path) {
  return path + ".partial";
}

/// Where the bytes around the arrays are kept while a publication changes them.
std::string saved_metadata_of(const std::string& out_path) {
  return out_path + ".partial.metadata";
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::int64_t array_bytes(const ResultLayout& layout, std::int64_t element_bytes) {
  return layout.nq * layout.k * element_bytes;
}

std::int64_t neighbors_bytes(const ResultLayout& layout) {
  return array_bytes(layout, layout.id_bytes);
}

std::int64_t distances_bytes(const ResultLayout& layout) {
  return array_bytes(layout, sizeof(float));
}

[[noreturn]] void fail_disk_full(std::int64_t bytes, const std::string& folder, std::int64_t free_bytes) {
  throw Error(ErrorKind::cannot_create, "disk full: needs " + std::to_string(bytes) + " bytes, " +
                                            std::to_string(free_bytes) + " are free on " + folder);
}

/// Free bytes for this user, "unlimited" where the file system can't say.
std::int64_t free_bytes_on(const std::string& folder) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) return std::numeric_limits<std::int64_t>::max();
  const auto blocks = static_cast<double>(status.f_bavail);
  const double bytes = blocks * static_cast<double>(status.f_frsize);
  return bytes < 9e18 ? static_cast<std::int64_t>(bytes) : std::numeric_limits<std::int64_t>::max();
}

void require_free_space(const std::string& out_path, const ResultLayout& layout) {
  const std::string folder = folder_of(out_path);
  const std::int64_t needed = neighbors_bytes(layout) + distances_bytes(layout);
  const std::int64_t available = free_bytes_on(folder);
  if (needed > available) fail_disk_full(needed, folder, available);
}

/// Makes the file `bytes` long with its blocks reserved, so that a full disk or quota is noticed now. File
/// systems that can't reserve get the length alone.
void reserve(const File& file, std::int64_t bytes) {
  if (bytes == 0) return;
  int result = 0;
  do {
    result = ::fallocate(file.get(), 0, 0, bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  const int error_number = errno;
  if (error_number == ENOSPC || error_number == EDQUOT)
    fail_disk_full(bytes, folder_of(file.path()), free_bytes_on(folder_of(file.path())));
  if (error_number == EOPNOTSUPP || error_number == ENOSYS) {
    if (file.size_bytes() >= bytes || ::ftruncate(file.get(), bytes) == 0) return;
  }
  throw Error(ErrorKind::cannot_create, "can't make " + file.path() + " " + std::to_string(bytes) +
                                            " bytes long: " + std::strerror(error_number));
}

// --- HDF5
// -----------------------------------------------------------------------------------------------------------

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

ResultLayout hdf5_layout(const std::string& path, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  ResultLayout layout{path, path, 0, 0, nq, k, sizeof(GlobalId), false};
  layout.neighbors_offset = array_offset(file, path, kNeighbors, nq, k, sizeof(GlobalId));
  layout.distances_offset = array_offset(file, path, kDistances, nq, k, sizeof(float));
  return layout;
}

void create_hdf5(const std::string& path, std::int64_t nq, std::int64_t k) {
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

void set_attributes(const std::string& path, const Attributes& attributes) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  H5File file(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), "H5Fopen", path, ErrorKind::io);
  for (const auto& [name, value] : attributes) std::visit(SetAttribute{file, path, name}, value);
  file.close(path);
}

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

/// Saves every byte outside the two arrays. HDF5 changes some of them in place when attributes are set, and a
/// process killed meanwhile would leave a file that can't be opened again.
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
  save(layout.neighbors_offset + neighbors_bytes(layout), layout.distances_offset);
  save(layout.distances_offset + distances_bytes(layout), file.size_bytes());
  write_text_atomically(saved_metadata_of(out_path), saved.dump());
}

/// Brings a file back to what it was before a publication that was killed.
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

// --- npy and ibin
// -----------------------------------------------------------------------------------------------------

/// Magic, version 1.0, length, and a Python dictionary padded with spaces to 64 bytes.
std::string npy_header(std::string_view type, std::int64_t nq, std::int64_t k) {
  std::string text = "{'descr': '" + std::string(type) + "', 'fortran_order': False, 'shape': (" +
                     std::to_string(nq) + ", " + std::to_string(k) + "), }";
  constexpr std::size_t kPrefixBytes = 10;
  const std::size_t total = (kPrefixBytes + text.size() + 1 + 63) / 64 * 64;
  text.resize(total - kPrefixBytes - 1, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

std::string ibin_header(std::int64_t nq, std::int64_t k) {
  const std::uint32_t sizes[2] = {narrow<std::uint32_t>(nq), narrow<std::uint32_t>(k)};
  return std::string(reinterpret_cast<const char*>(sizes), sizeof sizes);
}

/// One file of a format without a library of its own: what it begins with, and its whole size.
struct PlainFile {
  std::string path;
  std::string header;
  std::int64_t size_bytes = 0;
};

struct PlainResult {
  ResultLayout layout;
  std::vector<PlainFile> files;
};

PlainResult npy_result(const ResultFiles& names, std::int64_t nq, std::int64_t k) {
  const std::string neighbors = npy_header("<i8", nq, k);
  const std::string distances = npy_header("<f4", nq, k);
  PlainResult result;
  result.layout = {partial_of(names.arrays[0]),
                   partial_of(names.arrays[1]),
                   narrow<std::int64_t>(neighbors.size()),
                   narrow<std::int64_t>(distances.size()),
                   nq,
                   k,
                   sizeof(GlobalId),
                   false};
  result.files = {{result.layout.neighbors_path, neighbors,
                   result.layout.neighbors_offset + neighbors_bytes(result.layout)},
                  {result.layout.distances_path, distances,
                   result.layout.distances_offset + distances_bytes(result.layout)}};
  return result;
}

PlainResult ibin_result(const ResultFiles& names, std::int64_t nq, std::int64_t k) {
  PlainResult result;
  const std::string path = partial_of(names.arrays[0]);
  result.layout = {path, path, kIbinHeaderBytes, 0, nq, k, sizeof(std::int32_t), false};
  result.layout.distances_offset = kIbinHeaderBytes + neighbors_bytes(result.layout);
  result.files = {
      {path, ibin_header(nq, k), result.layout.distances_offset + distances_bytes(result.layout)}};
  return result;
}

PlainResult plain_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  const ResultFiles names = files_of(out_path, format);
  return format == ResultFormat::npy ? npy_result(names, nq, k) : ibin_result(names, nq, k);
}

void create_plain(const PlainResult& result) {
  for (const PlainFile& plain : result.files) {
    const File file = File::open_write(plain.path, true);
    reserve(file, plain.size_bytes);
    file.write_at(0, plain.header.data(), plain.header.size());
  }
}

void check_plain(const PlainResult& result) {
  for (const PlainFile& plain : result.files) {
    const File file = File::open_read(plain.path);
    std::string header(plain.header.size(), '\0');
    if (file.size_bytes() == plain.size_bytes) file.read_at(0, header.data(), header.size());
    if (header != plain.header)
      throw Error(ErrorKind::data, plain.path + " is not the unfinished " + std::to_string(result.layout.nq) +
                                       " x " + std::to_string(result.layout.k) +
                                       " result that was expected (" + std::to_string(file.size_bytes()) +
                                       " bytes, expected " + std::to_string(plain.size_bytes) +
                                       "); --no-resume starts over");
  }
}

/// A publication may have been killed between or after its renames: takes the final names back.
void undo_publication(const std::string& out_path, ResultFormat format) {
  for (const std::string& path : files_of(out_path, format).arrays)
    if (!exists(partial_of(path)) && exists(path)) publish(path, partial_of(path));
}

nlohmann::json to_json(const Attributes& attributes) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : attributes)
    std::visit([&json, &name = name](const auto& v) { json[name] = v; }, value);
  return json;
}

void require_shape(ResultFormat format, std::int64_t nq, std::int64_t k, std::int64_t max_id) {
  if (nq < 0 || k < 1)
    throw Error(ErrorKind::internal, "a result of " + std::to_string(nq) + " x " + std::to_string(k));
  if (format != ResultFormat::ibin) return;
  constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
  if (max_id > kMaxInt32)
    throw Error(ErrorKind::usage, "format ibin has 32-bit ids, the largest id here is " +
                                      std::to_string(max_id) + "; use --format h5 or npy");
  if (nq > kMaxInt32 || k > kMaxInt32)
    throw Error(ErrorKind::usage, "format ibin has 32-bit sizes, this result is " + std::to_string(nq) +
                                      " x " + std::to_string(k) + "; use --format h5 or npy");
}

ResultLayout make_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  if (format != ResultFormat::h5) {
    const PlainResult result = plain_result(out_path, format, nq, k);
    require_free_space(out_path, result.layout);
    create_plain(result);
    return result.layout;
  }
  const std::string path = partial_of(out_path);
  require_free_space(out_path, {path, path, 0, 0, nq, k, sizeof(GlobalId), false});
  File file = File::open_write(path, true);  // first, for its clear errors
  create_hdf5(path, nq, k);
  reserve(file, file.size_bytes());
  return hdf5_layout(path, nq, k);
}

}  // namespace

std::string_view to_string(ResultFormat format) {
  return kFormats[static_cast<std::size_t>(format)].name;
}

ResultFormat result_format_from_string(std::string_view text) {
  std::string names;
  for (const FormatRow& row : kFormats) {
    if (row.name == text) return row.format;
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorKind::usage, "unknown result format '" + std::string(text) + "'; known: " + names);
}

ResultFormat result_format_of(const std::string& out_path) {
  for (const FormatRow& row : kFormats)
    if (out_path.ends_with(row.suffix)) return row.format;
  return ResultFormat::h5;
}

std::string ResultLayout::serialize() const {
  return nlohmann::json{{"neighbors_path", neighbors_path},
                        {"distances_path", distances_path},
                        {"neighbors_offset", neighbors_offset},
                        {"distances_offset", distances_offset},
                        {"nq", nq},
                        {"k", k},
                        {"id_bytes", id_bytes},
                        {"may_create", may_create}}
      .dump();
}

ResultLayout ResultLayout::deserialize(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json.at("neighbors_path"),
          json.at("distances_path"),
          json.at("neighbors_offset"),
          json.at("distances_offset"),
          json.at("nq"),
          json.at("k"),
          json.at("id_bytes"),
          json.at("may_create")};
}

void require_output_place(const std::string& out_path) {
  const std::string folder = folder_of(out_path);
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) {
    const bool denied = errno == EACCES;
    throw Error(
        denied ? ErrorKind::permission : ErrorKind::cannot_create,
        denied ? "can't look into folder " + folder + " of output " + out_path + ": " + std::strerror(errno)
               : "folder " + folder + " of output " + out_path + " does not exist; create it first");
  }
  if (!S_ISDIR(status.st_mode))
    throw Error(ErrorKind::cannot_create,
                folder + ", the folder of output " + out_path + ", is not a directory");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(errno == EACCES ? ErrorKind::permission : ErrorKind::cannot_create,
                "can't write into folder " + folder + " of output " + out_path + ": " + std::strerror(errno));
  if (::stat(out_path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
    throw Error(ErrorKind::cannot_create, "output " + out_path + " is a directory, expected a file name");
}

ResultLayout create_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k,
                           std::int64_t max_id) {
  require_shape(format, nq, k, max_id);
  require_output_place(out_path);
  remove_partial(out_path, format);
  try {
    return make_result(out_path, format, nq, k);
  } catch (...) {
    remove_partial(out_path, format);
    throw;
  }
}

ResultLayout adopt_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  undo_publication(out_path, format);
  if (format == ResultFormat::h5) {
    restore_metadata(out_path);
    return hdf5_layout(partial_of(out_path), nq, k);
  }
  const PlainResult result = plain_result(out_path, format, nq, k);
  check_plain(result);
  return result.layout;
}

std::vector<std::string> result_paths(const std::string& out_path, ResultFormat format) {
  ResultFiles files = files_of(out_path, format);
  if (!files.attributes.empty()) files.arrays.push_back(files.attributes);
  return files.arrays;
}

bool partial_exists(const std::string& out_path, ResultFormat format) {
  for (const std::string& path : files_of(out_path, format).arrays)
    if (exists(partial_of(path))) return true;
  return false;
}

void remove_partial(const std::string& out_path, ResultFormat format) {
  std::error_code ignored;  // what can't be removed is noticed when it is written
  for (const std::string& path : files_of(out_path, format).arrays)
    std::filesystem::remove(partial_of(path), ignored);
  std::filesystem::remove(saved_metadata_of(out_path), ignored);
}

namespace {

/// @throws Error{io} where this host doesn't see what rank 0 created
File open_slices(const std::string& path, bool may_create) {
  if (!may_create && !exists(path))
    throw Error(ErrorKind::io, "this host does not see " + path +
                                   "; the output must lie on a file system that all ranks share");
  return File::open_write(path, false);
}

}  // namespace

ResultSlices::ResultSlices(const ResultLayout& layout)
    : layout_(layout),
      neighbors_(open_slices(layout.neighbors_path, layout.may_create)),
      distances_(open_slices(layout.distances_path, layout.may_create)) {}

void ResultSlices::write(std::int64_t first_query, const TopK& rows) const {
  if (rows.k() != layout_.k || first_query < 0 || first_query + rows.nq() > layout_.nq)
    throw Error(ErrorKind::internal, "rows [" + std::to_string(first_query) + ", " +
                                         std::to_string(first_query + rows.nq()) + ") x " +
                                         std::to_string(rows.k()) + " written to a result of " +
                                         std::to_string(layout_.nq) + " x " + std::to_string(layout_.k));
  const std::int64_t first = first_query * layout_.k;
  const auto count = narrow<std::size_t>(rows.nq() * rows.k());
  const std::int64_t neighbors_at = layout_.neighbors_offset + first * layout_.id_bytes;
  if (layout_.id_bytes == sizeof(GlobalId)) {
    neighbors_.write_at(neighbors_at, rows.neighbors(), count * sizeof(GlobalId));
  } else {
    std::vector<std::int32_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = narrow<std::int32_t>(rows.neighbors()[i]);
    neighbors_.write_at(neighbors_at, ids.data(), count * sizeof(std::int32_t));
  }
  distances_.write_at(layout_.distances_offset + first * narrow<std::int64_t>(sizeof(float)),
                      rows.distances(), count * sizeof(float));
}

TopK ResultSlices::read(std::int64_t first_query, std::int64_t nq, Metric metric) const {
  TopK rows(nq, layout_.k, metric);
  const std::int64_t first = first_query * layout_.k;
  const auto count = narrow<std::size_t>(nq * layout_.k);
  const std::int64_t neighbors_at = layout_.neighbors_offset + first * layout_.id_bytes;
  if (layout_.id_bytes == sizeof(GlobalId)) {
    neighbors_.read_at(neighbors_at, rows.neighbors(), count * sizeof(GlobalId));
  } else {
    std::vector<std::int32_t> ids(count);
    neighbors_.read_at(neighbors_at, ids.data(), count * sizeof(std::int32_t));
    for (std::size_t i = 0; i < count; ++i) rows.neighbors()[i] = ids[i];
  }
  distances_.read_at(layout_.distances_offset + first * narrow<std::int64_t>(sizeof(float)), rows.distances(),
                     count * sizeof(float));
  return rows;
}

void ResultSlices::sync() const {
  neighbors_.sync();
  distances_.sync();
}

void publish_result(const std::string& out_path, ResultFormat format, const Attributes& attributes) {
  const ResultFiles files = files_of(out_path, format);
  if (format == ResultFormat::h5) {
    save_metadata(out_path);
    set_attributes(partial_of(out_path), attributes);
  } else {
    write_text_atomically(files.attributes, to_json(attributes).dump(2) + "\n");
  }
  for (const std::string& path : files.arrays) File::open_write(partial_of(path), false).sync();
  for (const std::string& path : files.arrays) publish(partial_of(path), path);
  std::error_code ignored;  // a leftover is removed by the next run that creates this output
  std::filesystem::remove(saved_metadata_of(out_path), ignored);
}

}  // namespace mpishards::io

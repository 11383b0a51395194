#include "io/hdf5_source.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "io/dataset_list.hpp"
#include "io/hdf5_catalog.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_types.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

constexpr const char* kDefaultDataset = "train";
constexpr std::int64_t kSlabBytes = std::int64_t{8} << 20;
constexpr std::int64_t kMaxChunkCacheBytes = std::int64_t{256} << 20;
constexpr std::int64_t kMaxDirectOffset = std::numeric_limits<std::int64_t>::max() / 2;
/// No filter of the HDF5 library packs tighter than deflate, whose best is 1032 : 1.
constexpr std::int64_t kMaxPackingRatio = 1100;

struct Extent {
  std::int64_t rows = 0;
  std::int64_t cols = 1;  // 1 for data sets of one dimension
};

std::vector<std::int64_t> dims_of(const H5Dataset& dataset, const std::string& subject) {
  const H5Space space(H5Dget_space(dataset.get()), "H5Dget_space", subject);
  if (H5Sget_simple_extent_type(space.get()) != H5S_SIMPLE) return {};
  std::array<hsize_t, H5S_MAX_RANK> sizes{};
  const int rank = check_hdf5(H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr),
                              "H5Sget_simple_extent_dims", subject);
  std::vector<std::int64_t> dims;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    if (!std::in_range<std::int64_t>(sizes[i]))
      throw Error(ErrorKind::data, subject + " has a dimension of " + std::to_string(sizes[i]) + ": damaged");
    dims.push_back(static_cast<std::int64_t>(sizes[i]));
  }
  return dims;
}

Extent extent_of(const H5Dataset& dataset, std::size_t n_dims, const std::string& subject) {
  const std::vector<std::int64_t> dims = dims_of(dataset, subject);
  if (dims.size() != n_dims) {
    std::string shape;
    for (const std::int64_t dim : dims) shape += (shape.empty() ? "" : " x ") + std::to_string(dim);
    throw Error(ErrorKind::data, subject + " has " + std::to_string(dims.size()) +
                                     (dims.size() == 1 ? " dimension" : " dimensions") +
                                     (shape.empty() ? "" : " (" + shape + ")") + ", expected " +
                                     (n_dims == 2 ? "2: rows x cols" : "1: one id a row"));
  }
  return {dims[0], n_dims == 2 ? dims[1] : 1};
}

/// Where and how the elements of a data set are stored.
struct Storage {
  std::string words;
  std::int64_t direct_offset = -1;  // of contiguous data in this file
  Extent chunk;                     // rows is 0 unless chunked
};

std::string filter_name(H5Z_filter_t filter, const std::string& stored_name) {
  switch (filter) {
    case H5Z_FILTER_DEFLATE:
      return "deflate";
    case H5Z_FILTER_SHUFFLE:
      return "shuffle";
    case H5Z_FILTER_FLETCHER32:
      return "fletcher32";
    case H5Z_FILTER_SZIP:
      return "szip";
    case H5Z_FILTER_NBIT:
      return "nbit";
    case H5Z_FILTER_SCALEOFFSET:
      return "scaleoffset";
    default:
      return stored_name.empty() ? "filter " + std::to_string(filter) : stored_name;
  }
}

std::vector<std::string> filters_of(const H5Plist& creation, const std::string& subject) {
  std::vector<std::string> names;
  const int n = check_hdf5(H5Pget_nfilters(creation.get()), "H5Pget_nfilters", subject);
  for (unsigned i = 0; i < static_cast<unsigned>(n); ++i) {
    std::array<char, 64> stored_name{};
    unsigned flags = 0;
    std::size_t n_values = 0;
    const H5Z_filter_t filter =
        check_hdf5(H5Pget_filter2(creation.get(), i, &flags, &n_values, nullptr, stored_name.size() - 1,
                                  stored_name.data(), nullptr),
                   "H5Pget_filter", subject);
    names.push_back(filter_name(filter, stored_name.data()));
    if (check_hdf5(H5Zfilter_avail(filter), "H5Zfilter_avail", subject) == 0)
      throw Error(ErrorKind::data, subject + " is packed with " + names.back() + " (HDF5 filter " +
                                       std::to_string(filter) +
                                       "), which this HDF5 library lacks; read it with a program that has "
                                       "the filter, such as Python's "
                                       "h5py, and write the vectors again without it or with gzip");
  }
  return names;
}

[[noreturn]] void throw_short(const std::string& subject, std::int64_t needed, std::int64_t found) {
  throw Error(ErrorKind::data, subject + " needs " + std::to_string(needed) +
                                   " bytes, the file has room for " + std::to_string(found) +
                                   "; it is truncated or its header is damaged");
}

Storage contiguous_storage(const H5Dataset& dataset, std::int64_t bytes, std::int64_t file_bytes,
                           const std::string& subject) {
  const haddr_t offset = H5Dget_offset(dataset.get());
  if (offset == HADDR_UNDEF)
    throw Error(ErrorKind::data, subject + " was never written: the file has no data for it");
  if (offset > static_cast<haddr_t>(kMaxDirectOffset)) throw_short(subject, bytes, 0);
  const auto at = static_cast<std::int64_t>(offset);
  if (bytes > file_bytes - at) throw_short(subject, bytes, std::max<std::int64_t>(0, file_bytes - at));
  if (H5Dget_storage_size(dataset.get()) < static_cast<hsize_t>(bytes))
    throw_short(subject, bytes, static_cast<std::int64_t>(H5Dget_storage_size(dataset.get())));
  return {"contiguous", at, {0, 0}};
}

std::int64_t blocks(std::int64_t size, std::int64_t block) {
  return (size - 1) / block + 1;
}

Extent chunk_of(const H5Plist& creation, std::size_t n_dims, const std::string& subject) {
  std::array<hsize_t, H5S_MAX_RANK> sizes{};
  const int rank =
      check_hdf5(H5Pget_chunk(creation.get(), H5S_MAX_RANK, sizes.data()), "H5Pget_chunk", subject);
  const bool valid = static_cast<std::size_t>(rank) == n_dims && sizes[0] > 0 &&
                     (n_dims == 1 || sizes[1] > 0) && sizes[0] <= std::numeric_limits<std::uint32_t>::max() &&
                     sizes[1] <= std::numeric_limits<std::uint32_t>::max();
  if (!valid) throw Error(ErrorKind::data, subject + " has a damaged chunk shape");
  return {static_cast<std::int64_t>(sizes[0]), n_dims == 2 ? static_cast<std::int64_t>(sizes[1]) : 1};
}

Storage chunked_storage(const H5Dataset& dataset, const H5Plist& creation, std::size_t n_dims, Extent extent,
                        std::size_t element_bytes, std::int64_t file_bytes, const std::string& subject) {
  const std::vector<std::string> filters = filters_of(creation, subject);
  Storage storage;
  storage.chunk = chunk_of(creation, n_dims, subject);
  storage.words = "chunked " + std::to_string(storage.chunk.rows);
  if (n_dims == 2) storage.words.append("x").append(std::to_string(storage.chunk.cols));
  for (const std::string& filter : filters) storage.words += ", " + filter;

  // A damaged or unfinished file shows in missing chunks, which HDF5 would read as zeros.
  const H5Space space(H5Dget_space(dataset.get()), "H5Dget_space", subject);
  hsize_t written = 0;
  check_hdf5(H5Dget_num_chunks(dataset.get(), space.get(), &written), "H5Dget_num_chunks", subject);
  std::int64_t expected = 0;
  if (__builtin_mul_overflow(blocks(extent.rows, storage.chunk.rows), blocks(extent.cols, storage.chunk.cols),
                             &expected) ||
      written != static_cast<hsize_t>(expected))
    throw Error(ErrorKind::data, subject + " has " + std::to_string(written) + " of " +
                                     std::to_string(expected) + " chunks: parts of it were never written");

  std::int64_t unpacked = 0;
  const std::int64_t chunk_elements = storage.chunk.rows * storage.chunk.cols;  // both fit 32 bits
  const bool overflow =
      __builtin_mul_overflow(chunk_elements, static_cast<std::int64_t>(element_bytes), &unpacked) ||
      __builtin_mul_overflow(unpacked, expected, &unpacked);
  const std::int64_t room = filters.empty() ? file_bytes : file_bytes * kMaxPackingRatio;
  if (overflow || unpacked > room) throw_short(subject, overflow ? -1 : unpacked, room);
  return storage;
}

/// Checks everything that a data set says of itself against the file.
Storage storage_of(const H5Dataset& dataset, std::size_t n_dims, Extent extent, std::int64_t file_bytes,
                   const std::string& subject) {
  const H5Plist creation(H5Dget_create_plist(dataset.get()), "H5Dget_create_plist", subject);
  const H5Type type(H5Dget_type(dataset.get()), "H5Dget_type", subject);
  const std::size_t element_bytes = H5Tget_size(type.get());
  const std::int64_t bytes = extent.rows * extent.cols * static_cast<std::int64_t>(element_bytes);
  if (check_hdf5(H5Pget_external_count(creation.get()), "H5Pget_external_count", subject) > 0)
    throw Error(ErrorKind::data,
                subject +
                    " keeps its data in other files, which are not read; where they are, run h5repack -l "
                    "CONTI OLD NEW and search NEW");
  switch (H5Pget_layout(creation.get())) {
    case H5D_CONTIGUOUS:
      return contiguous_storage(dataset, bytes, file_bytes, subject);
    case H5D_CHUNKED:
      return chunked_storage(dataset, creation, n_dims, extent, element_bytes, file_bytes, subject);
    case H5D_COMPACT:
      if (bytes > file_bytes) throw_short(subject, bytes, file_bytes);
      return {"compact", -1, {0, 0}};
    case H5D_VIRTUAL:
      throw Error(ErrorKind::data, subject +
                                       " is a virtual data set; name the files behind it instead: several "
                                       "are searched as one base");
    default:
      throw Error(ErrorKind::data, subject + " has an unknown storage layout");
  }
}

H5Dataset open_dataset(const H5File& file, const std::string& dataset, const H5Plist& access,
                       const std::string& subject) {
  return H5Dataset(H5Dopen2(file.get(), dataset.c_str(), access.get()), "H5Dopen", subject);
}

/// Access properties whose cache holds two rows of chunks, so that reads that end inside a chunk decode it
/// once.
H5Plist access_with_cache(const Storage& storage, Extent extent, std::size_t element_bytes) {
  H5Plist access = hdf5_dataset_access();
  if (storage.chunk.rows == 0) return access;
  const std::int64_t across = blocks(extent.cols, storage.chunk.cols);
  const std::int64_t chunk_bytes =
      storage.chunk.rows * storage.chunk.cols * static_cast<std::int64_t>(element_bytes);
  const std::int64_t cache_bytes =
      std::clamp<std::int64_t>(2 * across * chunk_bytes, 1 << 20, kMaxChunkCacheBytes);
  constexpr std::size_t kSlots = 12421;  // a prime far above the number of cached chunks
  check_hdf5(H5Pset_chunk_cache(access.get(), kSlots, static_cast<std::size_t>(cache_bytes), 1.0),
             "H5Pset_chunk_cache", "data set access", ErrorKind::internal);
  return access;
}

/// Ids of the rows: int64, never negative.
class IdColumn {
 public:
  IdColumn(H5Dataset dataset, std::string name) : dataset_(std::move(dataset)), name_(std::move(name)) {
    const H5Type type(H5Dget_type(dataset_.get()), "H5Dget_type", name_);
    if (H5Tget_class(type.get()) != H5T_INTEGER)
      throw Error(ErrorKind::data,
                  name_ + " holds no integers, expected one id a row; rename it if it is no id");
    // Unsigned ids beyond int64 then come out negative too, instead of being clipped by HDF5.
    memory_ = H5Tget_sign(type.get()) == H5T_SGN_NONE ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64;
  }

  void read(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const {
    if (std::cmp_not_equal(out.size(), end - begin))
      throw Error(ErrorKind::internal, name_ + ": " + std::to_string(out.size()) + " places for " +
                                           std::to_string(end - begin) + " ids");
    if (begin == end) return;
    const Hdf5Lock lock;
    const hsize_t first = static_cast<hsize_t>(begin);
    const hsize_t count = static_cast<hsize_t>(end - begin);
    const H5Space in_file(H5Dget_space(dataset_.get()), "H5Dget_space", name_);
    check_hdf5(H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, &first, nullptr, &count, nullptr),
               "H5Sselect_hyperslab", name_);
    const H5Space in_memory(H5Screate_simple(1, &count, nullptr), "H5Screate_simple", name_);
    check_hdf5(H5Dread(dataset_.get(), memory_, in_memory.get(), in_file.get(), H5P_DEFAULT, out.data()),
               "H5Dread", name_);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (out[i] < 0)
        throw Error(ErrorKind::data, name_ + " row " + std::to_string(begin + static_cast<std::int64_t>(i)) +
                                         " is negative or beyond int64, expected an id of 0 or more");
  }

 private:
  H5Dataset dataset_;
  std::string name_;
  hid_t memory_ = -1;  // one of the library's own types: never released
};

class Hdf5Source final : public VectorSource {
 public:
  explicit Hdf5Source(const InputSpec& spec) : name_(to_string(spec)) {
    File raw = open_data_file(spec.path);
    require_hdf5_signature(raw);
    const std::int64_t file_bytes = raw.size_bytes();
    const Hdf5Lock lock;
    file_ = open_hdf5_read(spec.path);
    if (!has_hdf5_dataset(file_, spec.path, spec.dataset))
      throw_missing_dataset(file_, spec.path, spec.dataset);
    open_rows(spec.dataset, file_bytes);
    if (storage_.direct_offset >= 0 && element_.same_bits)
      direct_ = std::make_unique<ContiguousSource>(
          std::move(raw), name_, "hdf5",
          ContiguousSource::Layout{storage_.direct_offset, extent_.rows, extent_.cols, element_.dtype,
                                   element_.swap_bytes, storage_.words});
    open_ids(spec, file_bytes);
  }

  std::int64_t rows() const override { return extent_.rows; }
  std::int64_t cols() const override { return extent_.cols; }
  DType dtype() const override { return element_.dtype; }
  StoredElement stored_element() const override { return element_.stored; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "hdf5"; }
  std::string layout() const override { return storage_.words; }
  bool is_read_in_parallel() const override { return direct_ != nullptr; }

  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    if (direct_) return direct_->read_rows(begin, end, out);
    require_row_range(*this, begin, end);
    const std::int64_t row_bytes = extent_.cols * static_cast<std::int64_t>(size_bytes(element_.dtype));
    // Slabs end where chunks end, so that no chunk is decoded for two of them.
    const std::int64_t step = std::max<std::int64_t>(1, storage_.chunk.rows);
    const std::int64_t slab = std::max<std::int64_t>(1, kSlabBytes / row_bytes / step) * step;
    for (std::int64_t row = begin; row < end;) {
      const std::int64_t next = std::min(end, (row / slab + 1) * slab);
      read_slab(row, next, out + (row - begin) * row_bytes);
      row = next;
    }
  }

  bool has_ids() const override { return ids_ != nullptr; }
  std::string ids_problem() const override { return ids_problem_; }
  void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const override {
    require_row_range(*this, begin, end);
    if (!ids_problem_.empty()) throw Error(ErrorKind::data, ids_problem_);
    if (!ids_) return VectorSource::read_ids(begin, end, out);
    ids_->read(begin, end, out);
  }

 private:
  void open_rows(const std::string& dataset, std::int64_t file_bytes) {
    dataset_ = open_dataset(file_, dataset, hdf5_dataset_access(), name_);
    element_ = hdf5_element_of(dataset_, name_);
    extent_ = extent_of(dataset_, 2, name_);
    matrix_bytes(name_, extent_.rows, extent_.cols, element_.dtype);
    storage_ = storage_of(dataset_, 2, extent_, file_bytes, name_);
    if (storage_.chunk.rows == 0) return;
    // The cache is set up at the first open, which has told us how large it must be.
    dataset_ = H5Dataset();
    dataset_ =
        open_dataset(file_, dataset, access_with_cache(storage_, extent_, size_bytes(element_.dtype)), name_);
  }

  void open_ids(const InputSpec& spec, std::int64_t file_bytes) {
    const std::string path = ids_beside(spec.dataset);
    const std::string subject = to_string({spec.path, path});
    if (path == spec.dataset || !has_hdf5_dataset(file_, spec.path, path)) return;
    H5Dataset dataset = open_dataset(file_, path, hdf5_dataset_access(), subject);
    const Extent extent = extent_of(dataset, 1, subject);
    if (extent.rows != extent_.rows) {
      ids_problem_ = subject + " has " + std::to_string(extent.rows) + " ids, expected one for each of the " +
                     std::to_string(extent_.rows) + " rows of " + name_;
      return;
    }
    storage_of(dataset, 1, extent, file_bytes, subject);
    ids_ = std::make_unique<IdColumn>(std::move(dataset), subject);
  }

  void read_slab(std::int64_t begin, std::int64_t end, std::byte* out) const {
    const std::string subject = name_ + " rows " + std::to_string(begin) + " to " + std::to_string(end - 1);
    const Hdf5Lock lock;
    const std::array<hsize_t, 2> start{static_cast<hsize_t>(begin), 0};
    const std::array<hsize_t, 2> count{static_cast<hsize_t>(end - begin), static_cast<hsize_t>(extent_.cols)};
    const H5Space in_file(H5Dget_space(dataset_.get()), "H5Dget_space", subject);
    check_hdf5(
        H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
        "H5Sselect_hyperslab", subject);
    const H5Space in_memory(H5Screate_simple(2, count.data(), nullptr), "H5Screate_simple", subject);
    check_hdf5(
        H5Dread(dataset_.get(), element_.memory.get(), in_memory.get(), in_file.get(), H5P_DEFAULT, out),
        "H5Dread", subject);
  }

  std::string name_;
  H5File file_;  // before everything that is open in it
  H5Dataset dataset_;
  Hdf5Element element_;
  Extent extent_;
  Storage storage_;
  std::unique_ptr<ContiguousSource> direct_;
  std::unique_ptr<IdColumn> ids_;
  std::string ids_problem_;
};

}  // namespace

std::unique_ptr<VectorSource> open_hdf5(const InputSpec& spec, std::optional<DType>) {
  return std::make_unique<Hdf5Source>(
      InputSpec{spec.path, spec.dataset.empty() ? kDefaultDataset : spec.dataset});
}

}  // namespace mpishards::io

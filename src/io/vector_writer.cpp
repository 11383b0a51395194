#include "io/vector_writer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/counted_writer.hpp"
#include "io/dataset_list.hpp"
#include "io/faiss_layout.hpp"
#include "io/faiss_writer.hpp"
#include "io/file.hpp"
#include "io/hdf5_handle.hpp"
#include "io/hdf5_types.hpp"
#include "io/partial_file.hpp"
#include "io/vector_source_registry.hpp"

namespace mpishards::io {

namespace {

constexpr const char* kDefaultDataset = "train";
constexpr std::int64_t kBlockBytes = std::int64_t{4} << 20;

/// Where rows go: from `offset` on, each behind `row_prefix`; and their ids, if the file has any.
struct RowPlace {
  std::int64_t offset = 0;
  std::string row_prefix;
  std::int64_t ids_offset = 0;
};

struct Shape {
  std::int64_t rows;
  std::int64_t cols;
  DType dtype;
  bool with_ids;
};

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <class T>
T in_header(std::int64_t value, const std::string& path, const char* what) {
  if (!std::in_range<T>(value))
    throw Error(ErrorKind::usage, path + ": " + what + " = " + std::to_string(value) +
                                      " does not fit this format's header; write HDF5 or .npy");
  return static_cast<T>(value);
}

RowPlace start_with(const PartialFile& file, const std::string& header, std::string row_prefix = "") {
  file.file().write_at(0, header.data(), header.size());
  return {static_cast<std::int64_t>(header.size()), std::move(row_prefix), 0};
}

RowPlace start_xbin(const PartialFile& file, const Shape& shape) {
  return start_with(file, bytes_of(in_header<std::uint32_t>(shape.rows, file.path(), "rows")) +
                              bytes_of(in_header<std::uint32_t>(shape.cols, file.path(), "d")));
}

RowPlace start_xvecs(const PartialFile& file, const Shape& shape) {
  return start_with(file, "", bytes_of(in_header<std::int32_t>(shape.cols, file.path(), "d")));
}

std::string npy_descr(const std::string& path, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "<f4";
    case DType::f16:
      return "<f2";
    case DType::f64:
      return "<f8";
    case DType::u8:
      return "|u1";
    case DType::i8:
      return "|i1";
    case DType::i32:
      return "<i4";
    case DType::i64:
      return "<i8";
    case DType::bf16:
      break;
  }
  throw Error(ErrorKind::usage, path + ": .npy has no bfloat16; write HDF5, or f32 or f16");
}

RowPlace start_npy(const PartialFile& file, const Shape& shape) {
  constexpr std::size_t kAlignment = 64;
  std::string text = "{'descr': '" + npy_descr(file.path(), shape.dtype) +
                     "', 'fortran_order': False, 'shape': (" + std::to_string(shape.rows) + ", " +
                     std::to_string(shape.cols) + "), }";
  const std::string start("\x93NUMPY\x01\x00", 8);
  const std::size_t unpadded = start.size() + sizeof(std::uint16_t) + text.size() + 1;
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ').append("\n");
  return start_with(file, start + bytes_of(static_cast<std::uint16_t>(text.size())) + text);
}

/// Adds a contiguous data set, with the groups on its way, whose values are then written past the library.
H5Dataset add_hdf5_dataset(const H5File& file, const InputSpec& name, const H5Type& type,
                           std::span<const hsize_t> dims) {
  const std::string subject = to_string(name);
  const auto fail = ErrorKind::cannot_create;
  const H5Plist links(H5Pcreate(H5P_LINK_CREATE), "H5Pcreate", subject, fail);
  check_hdf5(H5Pset_create_intermediate_group(links.get(), 1), "H5Pset_create_intermediate_group", subject,
             fail);
  const H5Plist creation(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", subject, fail);
  check_hdf5(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time", subject, fail);
  check_hdf5(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time", subject, fail);
  const H5Space space(H5Screate_simple(narrow<int>(dims.size()), dims.data(), nullptr), "H5Screate_simple",
                      subject, fail);
  return H5Dataset(H5Dcreate2(file.get(), name.dataset.c_str(), type.get(), space.get(), links.get(),
                              creation.get(), H5P_DEFAULT),
                   "H5Dcreate", subject, fail);
}

/// Where the values of a data set lie. Closes it. @pre it has values
std::int64_t offset_of(H5Dataset data, const std::string& subject) {
  const haddr_t offset = H5Dget_offset(data.get());
  if (offset == HADDR_UNDEF)
    throw Error(ErrorKind::internal, subject + ": HDF5 reports no place for the values");
  data.close(subject);
  return narrow<std::int64_t>(offset);
}

RowPlace start_hdf5(const PartialFile& partial, const InputSpec& out, const Shape& shape) {
  const InputSpec rows{out.path, out.dataset.empty() ? kDefaultDataset : out.dataset};
  const InputSpec ids{out.path, ids_beside(rows.dataset)};
  if (shape.with_ids && ids.dataset == rows.dataset)
    throw Error(ErrorKind::usage,
                to_string(rows) + " is the place of the vectors' ids; name another data set");
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  H5File file(H5Fcreate(partial.partial().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate",
              out.path, ErrorKind::cannot_create);
  const std::array<hsize_t, 2> dims{narrow<hsize_t>(shape.rows), narrow<hsize_t>(shape.cols)};
  H5Dataset data = add_hdf5_dataset(file, rows, hdf5_stored_type(shape.dtype), dims);
  if (shape.dtype == DType::bf16) mark_bfloat16(data, to_string(rows));
  RowPlace place;
  place.offset = offset_of(std::move(data), to_string(rows));
  if (shape.with_ids)
    place.ids_offset = offset_of(
        add_hdf5_dataset(file, ids, hdf5_stored_type(DType::i64), std::span(dims).first(1)), to_string(ids));
  file.close(out.path);
  return place;
}

RowPlace start_file(std::string_view format, const PartialFile& file, const InputSpec& out,
                    const Shape& shape) {
  if (format == "hdf5") return start_hdf5(file, out, shape);
  if (format == "xbin") return start_xbin(file, shape);
  if (format == "xvecs") return start_xvecs(file, shape);
  return start_npy(file, shape);
}

/// Writes rows behind a header that is already in the file.
class RowWriter final : public CountedWriter {
 public:
  RowWriter(PartialFile file, RowPlace place, const Shape& shape)
      : CountedWriter(std::move(file), shape.rows, shape.with_ids),
        place_(std::move(place)),
        row_bytes_(shape.cols * static_cast<std::int64_t>(size_bytes(shape.dtype))),
        stride_(row_bytes_ + static_cast<std::int64_t>(place_.row_prefix.size())) {}

 private:
  void write_rows(std::int64_t first, const std::byte* data, std::int64_t rows) override {
    const std::int64_t at = place_.offset + first * stride_;
    if (place_.row_prefix.empty())
      file().write_at(at, data, static_cast<std::size_t>(rows * row_bytes_));
    else
      append_prefixed(at, data, rows);
  }

  void write_ids(std::int64_t first, std::span<const GlobalId> ids) override {
    file().write_at(place_.ids_offset + first * narrow<std::int64_t>(sizeof(GlobalId)), ids.data(),
                    ids.size_bytes());
  }

  void append_prefixed(std::int64_t at, const std::byte* data, std::int64_t rows) const {
    const std::int64_t block_rows = std::max<std::int64_t>(1, kBlockBytes / stride_);
    std::vector<std::byte> block;
    for (std::int64_t row = 0; row < rows; row += block_rows) {
      block.clear();
      for (std::int64_t r = row; r < std::min(rows, row + block_rows); ++r) {
        const auto* prefix = reinterpret_cast<const std::byte*>(place_.row_prefix.data());
        block.insert(block.end(), prefix, prefix + place_.row_prefix.size());
        block.insert(block.end(), data + r * row_bytes_, data + (r + 1) * row_bytes_);
      }
      file().write_at(at + row * stride_, block.data(), block.size());
    }
  }

  RowPlace place_;
  std::int64_t row_bytes_ = 0;
  std::int64_t stride_ = 0;
};

}  // namespace

std::unique_ptr<VectorWriter> create_vector_file(const InputSpec& out, std::int64_t rows, std::int64_t cols,
                                                 DType dtype, bool overwrite, bool with_ids, Metric metric) {
  const SuffixRow& row = suffix_row_of(out.path);
  if (!out.dataset.empty() && row.format.format != "hdf5")
    throw Error(ErrorKind::usage, to_string(out) + ": only HDF5 files have data sets; give " + out.path);
  if (row.dtype.value_or(dtype) != dtype)
    throw Error(ErrorKind::usage, out.path + " holds " + std::string(to_string(*row.dtype)) + ", not " +
                                      std::string(to_string(dtype)) +
                                      "; convert the type or choose another suffix");
  if (with_ids && out.dataset == ids_beside(out.dataset))
    throw Error(ErrorKind::usage, to_string(out) + " is where the vectors' ids go; name another data set");
  if (!overwrite && exists(out.path))
    throw Error(ErrorKind::cannot_create,
                out.path + " exists; give another name, or --overwrite, which replaces the whole file");
  if (row.format.format == "faiss") return create_faiss_flat(out.path, metric, rows, cols, with_ids);
  const Shape shape{rows, cols, dtype, with_ids};
  PartialFile file(out.path);
  RowPlace place = start_file(row.format.format, file, out, shape);
  return std::make_unique<RowWriter>(std::move(file), std::move(place), shape);
}

bool can_hold_ids(const std::string& path) {
  return is_hdf5_path(path) || is_faiss_path(path);
}

DType implied_dtype(const std::string& path, DType otherwise) {
  return suffix_row_of(path).dtype.value_or(otherwise);
}

}  // namespace mpishards::io

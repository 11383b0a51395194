#include "io/csr_file.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/hdf5_arrays.hpp"
#include "io/hdf5_attributes.hpp"
#include "io/hdf5_catalog.hpp"
#include "io/result_files.hpp"
#include "io/result_hdf5.hpp"
#include "io/try_in_child.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

/// Rows whose starts are held at once by a walk over all rows.
constexpr std::int64_t kWalkRows = 1 << 16;

ArrayPlan plan_of(const char* name, DType type, std::int64_t length) {
  return {name, type, {narrow<hsize_t>(length)}};
}

struct CsrArrays {
  explicit CsrArrays(const CsrShape& shape)
      : indptr(plan_of("indptr", DType::i64, shape.rows + 1)),
        indices(plan_of("indices", DType::i64, shape.nnz)),
        data(plan_of("data", DType::f32, shape.nnz)),
        component(plan_of("component", DType::i64, shape.rows)),
        keep(plan_of("keep", DType::u8, shape.rows)) {}

  ArrayPlan indptr;
  ArrayPlan indices;
  ArrayPlan data;
  ArrayPlan component;
  ArrayPlan keep;
};

void require_shape(const CsrShape& shape) {
  if (shape.rows < 0 || shape.columns < 0 || shape.nnz < 0)
    throw Error(ErrorKind::internal, "a sparse matrix of " + std::to_string(shape.rows) + " x " +
                                         std::to_string(shape.columns) + " with " +
                                         std::to_string(shape.nnz) + " entries");
}

CsrLayout layout_of(const std::string& path, const CsrShape& shape) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  const CsrArrays arrays(shape);
  const auto offset = [&](const ArrayPlan& array) { return bytes_of_array(file, path, array).begin; };
  CsrLayout layout{path, shape, offset(arrays.indptr), offset(arrays.indices), offset(arrays.data)};
  if (shape.has_clusters) {
    layout.component_offset = offset(arrays.component);
    layout.keep_offset = offset(arrays.keep);
  }
  return layout;
}

void require_range(const CsrSource& matrix, std::int64_t begin, std::int64_t end, std::int64_t length) {
  if (begin < 0 || begin > end || end > length)
    throw Error(ErrorKind::internal, "[" + std::to_string(begin) + ", " + std::to_string(end) + ") of " +
                                         std::to_string(length) + " in " + matrix.name());
}

}  // namespace

std::string CsrLayout::serialize() const {
  return nlohmann::json{path,          shape.rows,     shape.columns, shape.nnz,        shape.has_clusters,
                        indptr_offset, indices_offset, data_offset,   component_offset, keep_offset}
      .dump();
}

CsrLayout CsrLayout::deserialize(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {.path = json.at(0),
          .shape = {.rows = json.at(1), .columns = json.at(2), .nnz = json.at(3), .has_clusters = json.at(4)},
          .indptr_offset = json.at(5),
          .indices_offset = json.at(6),
          .data_offset = json.at(7),
          .component_offset = json.at(8),
          .keep_offset = json.at(9)};
}

CsrLayout create_csr(const std::string& out_path, const CsrShape& shape) {
  require_shape(shape);
  CsrArrays arrays(shape);
  std::vector<ArrayPlan> plans = {arrays.indptr, arrays.indices, arrays.data};
  if (shape.has_clusters) plans.insert(plans.end(), {arrays.component, arrays.keep});
  return make_output(out_path, ResultFormat::csr, [&] {
    create_hdf5_output(out_path, plans);
    return layout_of(partial_of(out_path), shape);
  });
}

CsrLayout adopt_csr(const std::string& out_path, const CsrShape& shape) {
  reopen_hdf5_output(out_path);
  return layout_of(partial_of(out_path), shape);
}

// --- reading
// ----------------------------------------------------------------------------------------------------------

ConstNeighborRow CsrRows::row(std::int64_t i) const {
  const auto at = [&](std::int64_t place) {
    return offsets[static_cast<std::size_t>(place)] - offsets.front();
  };
  const auto begin = static_cast<std::size_t>(at(i));
  const auto length = static_cast<std::size_t>(at(i + 1) - at(i));
  return {{ids.data() + begin, length}, {distances.data() + begin, length}};
}

std::vector<std::int64_t> CsrSource::read_offsets(std::int64_t begin, std::int64_t end) const {
  require_range(*this, begin, end, shape().rows);
  std::vector<std::int64_t> offsets(narrow<std::size_t>(end - begin + 1));
  load_offsets(begin, offsets);
  std::int64_t before = 0;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (offsets[i] < before || offsets[i] > shape().nnz)
      throw Error(ErrorKind::data, name() + ":indptr[" +
                                       std::to_string(begin + static_cast<std::int64_t>(i)) + "] is " +
                                       std::to_string(offsets[i]) + ", expected " + std::to_string(before) +
                                       " to " + std::to_string(shape().nnz) + "; the file is damaged");
    before = offsets[i];
  }
  return offsets;
}

void CsrSource::read_entries(std::int64_t first, std::span<GlobalId> ids, std::span<float> distances) const {
  const auto count = narrow<std::int64_t>(ids.size());
  require_range(*this, first, first + count, shape().nnz);
  if (!distances.empty() && distances.size() != ids.size())
    throw Error(ErrorKind::internal, std::to_string(distances.size()) + " distances asked for " +
                                         std::to_string(ids.size()) + " ids");
  if (count == 0) return;
  load_ids(first, ids);
  const auto bad = std::ranges::find_if(ids, [](GlobalId id) { return id < kNoNeighbor; });
  if (bad != ids.end())
    throw Error(ErrorKind::data, name() + ":indices[" + std::to_string(first + (bad - ids.begin())) +
                                     "] is " + std::to_string(*bad) +
                                     ", expected an id; the file is damaged");
  if (!distances.empty()) load_distances(first, distances);
}

CsrRows CsrSource::read_rows(std::int64_t begin, std::int64_t end) const {
  CsrRows rows{begin, read_offsets(begin, end), {}, {}};
  const auto count = narrow<std::size_t>(rows.offsets.back() - rows.offsets.front());
  rows.ids.resize(count);
  rows.distances.resize(count);
  read_entries(rows.offsets.front(), rows.ids, rows.distances);
  return rows;
}

CsrRows CsrSource::read_block(std::int64_t begin, std::int64_t max_entries, std::int64_t max_rows) const {
  CsrRows rows{begin, read_offsets(begin, std::min(shape().rows, begin + max_rows)), {}, {}};
  const auto behind = std::ranges::upper_bound(rows.offsets, rows.offsets.front() + max_entries);
  rows.offsets.resize(std::max<std::size_t>(2, static_cast<std::size_t>(behind - rows.offsets.begin())));
  const auto count = narrow<std::size_t>(rows.offsets.back() - rows.offsets.front());
  rows.ids.resize(count);
  rows.distances.resize(count);
  read_entries(rows.offsets.front(), rows.ids, rows.distances);
  return rows;
}

void for_each_piece(const CsrSource& matrix, std::int64_t begin, std::int64_t end, std::int64_t block_entries,
                    const CsrVisitor& visit) {
  std::vector<GlobalId> ids;
  std::vector<float> distances;
  for (std::int64_t first_row = begin; first_row < end; first_row += kWalkRows) {
    const std::vector<std::int64_t> offsets =
        matrix.read_offsets(first_row, std::min(end, first_row + kWalkRows));
    std::size_t row = 0;  // counted from first_row: that of the entry at hand
    for (std::int64_t at = offsets.front(); at < offsets.back();) {
      const std::int64_t block_end = std::min(offsets.back(), at + block_entries);
      ids.resize(narrow<std::size_t>(block_end - at));
      distances.resize(ids.size());
      matrix.read_entries(at, ids, distances);
      for (const std::int64_t block_begin = at; at < block_end;) {
        while (offsets[row + 1] <= at) ++row;
        const std::int64_t piece_end = std::min(offsets[row + 1], block_end);
        const auto from = static_cast<std::size_t>(at - block_begin);
        const auto length = static_cast<std::size_t>(piece_end - at);
        visit(first_row + static_cast<std::int64_t>(row),
              {std::span(ids).subspan(from, length), std::span(distances).subspan(from, length)});
        at = piece_end;
      }
    }
  }
}

// --- unfinished
// -------------------------------------------------------------------------------------------------------

CsrSlices::CsrSlices(const CsrLayout& layout) : layout_(layout), file_(open_shared_output(layout.path)) {}

/// Where element `first` of an array lies. @throws Error{internal} if the values go beyond its length
template <class T>
std::int64_t CsrSlices::place(std::int64_t offset, std::int64_t length, std::int64_t first,
                              std::span<T> values) const {
  require_range(*this, first, first + narrow<std::int64_t>(values.size()), length);
  return offset + first * narrow<std::int64_t>(sizeof(T));
}

void CsrSlices::write_offsets(std::int64_t first, std::span<const std::int64_t> offsets) const {
  file_.write_at(place(layout_.indptr_offset, shape().rows + 1, first, offsets), offsets.data(),
                 offsets.size_bytes());
}

void CsrSlices::write_entries(std::int64_t first, std::span<const GlobalId> ids,
                              std::span<const float> distances) const {
  if (ids.size() != distances.size())
    throw Error(ErrorKind::internal, std::to_string(ids.size()) + " ids and " +
                                         std::to_string(distances.size()) + " distances for " + name());
  file_.write_at(place(layout_.indices_offset, shape().nnz, first, ids), ids.data(), ids.size_bytes());
  file_.write_at(place(layout_.data_offset, shape().nnz, first, distances), distances.data(),
                 distances.size_bytes());
}

void CsrSlices::write_components(std::int64_t first_row, std::span<const GlobalId> components) const {
  require_clusters();
  file_.write_at(place(layout_.component_offset, shape().rows, first_row, components), components.data(),
                 components.size_bytes());
}

void CsrSlices::write_keep(std::int64_t first_row, std::span<const std::uint8_t> keep) const {
  require_clusters();
  file_.write_at(place(layout_.keep_offset, shape().rows, first_row, keep), keep.data(), keep.size_bytes());
}

void CsrSlices::read_components(std::int64_t first_row, std::span<GlobalId> out) const {
  require_clusters();
  file_.read_at(place(layout_.component_offset, shape().rows, first_row, out), out.data(), out.size_bytes());
}

void CsrSlices::read_keep(std::int64_t first_row, std::span<std::uint8_t> out) const {
  require_clusters();
  file_.read_at(place(layout_.keep_offset, shape().rows, first_row, out), out.data(), out.size_bytes());
}

void CsrSlices::require_clusters() const {
  if (!shape().has_clusters)
    throw Error(ErrorKind::internal, name() + " was created without component and keep");
}

void CsrSlices::load_offsets(std::int64_t first, std::span<std::int64_t> out) const {
  file_.read_at(place(layout_.indptr_offset, shape().rows + 1, first, out), out.data(), out.size_bytes());
}

void CsrSlices::load_ids(std::int64_t first, std::span<GlobalId> out) const {
  file_.read_at(place(layout_.indices_offset, shape().nnz, first, out), out.data(), out.size_bytes());
}

void CsrSlices::load_distances(std::int64_t first, std::span<float> out) const {
  file_.read_at(place(layout_.data_offset, shape().nnz, first, out), out.data(), out.size_bytes());
}

// --- finished
// ---------------------------------------------------------------------------------------------------------

namespace {

class Hdf5Csr final : public CsrReader {
 public:
  explicit Hdf5Csr(const std::string& path) : path_(path) {
    const Hdf5Lock lock;
    file_ = open_hdf5_read(path);
    indptr_ = open_array(file_, path, "indptr", H5T_INTEGER);
    indices_ = open_array(file_, path, "indices", H5T_INTEGER);
    data_ = open_array(file_, path, "data", H5T_FLOAT);
    attributes_ = read_hdf5_attributes(file_, path);
    set_shape();
  }

  const std::string& name() const override { return path_; }
  const CsrShape& shape() const override { return shape_; }
  const Attributes& attributes() const override { return attributes_; }

 private:
  void set_shape() {
    const std::int64_t starts = vector_length(indptr_, path_, "indptr");
    const std::int64_t distances = vector_length(data_, path_, "data");
    shape_.nnz = vector_length(indices_, path_, "indices");
    if (starts < 1)
      throw Error(ErrorKind::data, path_ + ":indptr is empty, expected one number more than rows");
    if (distances != shape_.nnz)
      throw Error(ErrorKind::data, path_ + ":indices has " + std::to_string(shape_.nnz) +
                                       " entries, but data has " + std::to_string(distances));
    shape_.rows = starts - 1;
    const auto columns = attributes_.find("nb");
    shape_.columns = columns != attributes_.end() && std::holds_alternative<std::int64_t>(columns->second)
                         ? std::get<std::int64_t>(columns->second)
                         : shape_.rows;
    require_end("first", 0, 0);
    require_end("last", shape_.rows, shape_.nnz);
  }

  void require_end(const char* which, std::int64_t place, std::int64_t expected) const {
    std::int64_t found = 0;
    read_vector(indptr_, H5T_NATIVE_INT64, place, 1, &found, path_);
    if (found != expected)
      throw Error(ErrorKind::data, path_ + ": the " + which + " number of indptr is " +
                                       std::to_string(found) + ", expected " + std::to_string(expected) +
                                       "; the file is damaged");
  }

  void load_offsets(std::int64_t first, std::span<std::int64_t> out) const override {
    const Hdf5Lock lock;
    read_vector(indptr_, H5T_NATIVE_INT64, first, out.size(), out.data(), path_);
  }
  void load_ids(std::int64_t first, std::span<GlobalId> out) const override {
    const Hdf5Lock lock;
    read_vector(indices_, H5T_NATIVE_INT64, first, out.size(), out.data(), path_);
  }
  void load_distances(std::int64_t first, std::span<float> out) const override {
    const Hdf5Lock lock;
    read_vector(data_, H5T_NATIVE_FLOAT, first, out.size(), out.data(), path_);
  }

  std::string path_;
  CsrShape shape_;
  Attributes attributes_;
  H5File file_;
  H5Dataset indptr_;
  H5Dataset indices_;
  H5Dataset data_;
};

}  // namespace

std::unique_ptr<CsrReader> open_csr(const std::string& path) {
  require_hdf5_signature(open_data_file(path));
  // In a child first, for a damaged file can bring the HDF5 library down.
  try_in_child(path, [&] {
    const Hdf5Csr matrix(path);
    if (matrix.shape().nnz == 0) return;
    GlobalId id = 0;
    float distance = 0;
    for (const std::int64_t place : {std::int64_t{0}, matrix.shape().nnz - 1})
      matrix.read_entries(place, {&id, 1}, {&distance, 1});
  });
  return std::make_unique<Hdf5Csr>(path);
}

bool holds_csr(const std::string& path) {
  const auto has_indptr = [&path] {
    const Hdf5Lock lock;
    return has_array(open_hdf5_read(path), path, "indptr");
  };
  try_in_child(path, has_indptr);
  return has_indptr();
}

std::unique_ptr<CsrReader> open_range_matrix(const std::string& path) {
  if (!has_hdf5_signature(path) || !holds_csr(path)) return nullptr;
  std::unique_ptr<CsrReader> matrix = open_csr(path);
  return matrix->attributes().contains("eps") ? std::move(matrix) : nullptr;
}

}  // namespace mpishards::io

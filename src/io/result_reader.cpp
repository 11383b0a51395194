#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/csr_file.hpp"
#include "io/hdf5_arrays.hpp"
#include "io/hdf5_attributes.hpp"
#include "io/hdf5_catalog.hpp"
#include "io/results_writer.hpp"
#include "io/try_in_child.hpp"
#include "io/vector_source.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

/// Empty where there is none or it is no text.
std::string text_attribute(const Attributes& attributes, const char* name) {
  const auto found = attributes.find(name);
  if (found == attributes.end() || !std::holds_alternative<std::string>(found->second)) return "";
  return std::get<std::string>(found->second);
}

/// Which answers padding belongs to: our own `metric`, else ann-benchmarks' `distance`, else l2.
Metric metric_of(const Attributes& attributes) {
  const std::string metric = text_attribute(attributes, "metric");
  if (!metric.empty()) return metric_from_string(metric);
  return text_attribute(attributes, "distance") == "angular" ? Metric::cosine : Metric::l2;
}

/// What every format knows once it was opened.
class OpenedResult : public ResultReader {
 public:
  std::int64_t nq() const override { return nq_; }
  std::int64_t k() const override { return k_; }
  bool has_distances() const override { return has_distances_; }
  const Attributes& attributes() const override { return attributes_; }

  TopK read(std::int64_t begin, std::int64_t end) const override {
    if (begin < 0 || begin > end || end > nq_)
      throw Error(ErrorKind::internal, "rows [" + std::to_string(begin) + ", " + std::to_string(end) +
                                           ") of a result of " + std::to_string(nq_) + " queries");
    TopK rows(end - begin, k_, metric_of(attributes_));
    if (begin == end) return rows;
    read_neighbors(begin, end, rows.neighbors());
    if (has_distances_) {
      read_distances(begin, end, rows.distances());
    } else {
      std::fill_n(rows.distances(), (end - begin) * k_, 0.0F);
    }
    return rows;
  }

 protected:
  void set_shape(std::int64_t nq, std::int64_t k, bool has_distances) {
    nq_ = nq;
    k_ = k;
    has_distances_ = has_distances;
  }
  void set_attributes(Attributes attributes) { attributes_ = std::move(attributes); }

 private:
  virtual void read_neighbors(std::int64_t begin, std::int64_t end, GlobalId* out) const = 0;
  virtual void read_distances(std::int64_t begin, std::int64_t end, float* out) const = 0;

  std::int64_t nq_ = 0;
  std::int64_t k_ = 0;
  bool has_distances_ = false;
  Attributes attributes_;
};

// --- HDF5
// -----------------------------------------------------------------------------------------------------------

class Hdf5Result final : public OpenedResult {
 public:
  explicit Hdf5Result(const std::string& path) : path_(path) {
    const Hdf5Lock lock;
    file_ = open_hdf5_read(path);
    open_matrices();
    set_attributes(read_hdf5_attributes(file_, path));
  }

 private:
  void open_matrices() {
    neighbors_ = open_array(file_, path_, "neighbors", H5T_INTEGER);
    const auto [nq, k] = matrix_shape_of(neighbors_, "neighbors");
    const bool has_distances = has_array(file_, path_, "distances");
    if (has_distances) {
      distances_ = open_array(file_, path_, "distances", H5T_FLOAT);
      const auto shape = matrix_shape_of(distances_, "distances");
      if (shape != std::pair(nq, k))
        throw Error(ErrorKind::data, path_ + ":distances is " + std::to_string(shape.first) + " x " +
                                         std::to_string(shape.second) + ", but neighbors is " +
                                         std::to_string(nq) + " x " + std::to_string(k));
    }
    set_shape(nq, k, has_distances);
  }

  std::pair<std::int64_t, std::int64_t> matrix_shape_of(const H5Dataset& array, const char* name) const {
    const std::string subject = path_ + ":" + name;
    const std::vector<hsize_t> shape = shape_of(array, subject);
    if (shape.size() != 2)
      throw Error(ErrorKind::data,
                  subject + " has " + std::to_string(shape.size()) + " dimensions, expected 2 (queries x k)");
    return {narrow<std::int64_t>(shape[0]), narrow<std::int64_t>(shape[1])};
  }

  void read_array(const H5Dataset& array, hid_t native, std::int64_t begin, std::int64_t end,
                  void* out) const {
    const Hdf5Lock lock;
    const std::array<hsize_t, 2> start = {narrow<hsize_t>(begin), 0};
    const std::array<hsize_t, 2> count = {narrow<hsize_t>(end - begin), narrow<hsize_t>(k())};
    const H5Space in_file(H5Dget_space(array.get()), "H5Dget_space", path_);
    check_hdf5(
        H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
        "H5Sselect_hyperslab", path_);
    const H5Space in_memory(H5Screate_simple(2, count.data(), nullptr), "H5Screate_simple", path_);
    check_hdf5(H5Dread(array.get(), native, in_memory.get(), in_file.get(), H5P_DEFAULT, out), "H5Dread",
               path_);
  }
  void read_neighbors(std::int64_t begin, std::int64_t end, GlobalId* out) const override {
    read_array(neighbors_, H5T_NATIVE_INT64, begin, end, out);
  }
  void read_distances(std::int64_t begin, std::int64_t end, float* out) const override {
    read_array(distances_, H5T_NATIVE_FLOAT, begin, end, out);
  }

  std::string path_;
  H5File file_;
  H5Dataset neighbors_;
  H5Dataset distances_;
};

/// A graph. Of a row of the union the k nearest are the first k entries: they are all in it, and it is
/// sorted.
class SparseResult final : public OpenedResult {
 public:
  explicit SparseResult(const std::string& path) : matrix_(open_csr(path)) {
    const Attributes& attributes = matrix_->attributes();
    if (attributes.contains("eps"))
      throw Error(
          ErrorKind::data,
          path +
              " holds all rows within a distance, not the k nearest, and is not compared with another "
              "file; judge it by mpishards eval " +
              path + " --oracle N");
    const std::string symmetrized = text_attribute(attributes, "symmetrized");
    if (symmetrized == "mutual")
      throw Error(ErrorKind::data,
                  path +
                      " is a mutual graph, whose rows lack some of their nearest: there are no "
                      "k to be read; use a graph of --symmetrize none or union");
    has_more_ = symmetrized == "union";
    const std::int64_t nq = matrix_->shape().rows;
    const std::int64_t entries = matrix_->shape().nnz;
    if (!has_more_ && (nq < 1 || entries % nq != 0)) throw_unequal(std::to_string(entries) + " entries");
    set_shape(nq, has_more_ ? k_attribute() : entries / nq, true);
    set_attributes(attributes);
  }

 private:
  std::int64_t k_attribute() const {
    const auto found = matrix_->attributes().find("k");
    if (found != matrix_->attributes().end() && std::holds_alternative<std::int64_t>(found->second))
      if (const std::int64_t k = std::get<std::int64_t>(found->second); k >= 1) return k;
    throw Error(ErrorKind::data, matrix_->name() + " is a graph without the attribute k");
  }

  [[noreturn]] void throw_unequal(const std::string& found) const {
    throw Error(ErrorKind::data, matrix_->name() + " is a sparse matrix of " +
                                     std::to_string(matrix_->shape().rows) + " rows and " + found +
                                     "; expected as many in each row");
  }

  void check_lengths(std::int64_t begin, const std::vector<std::int64_t>& offsets) const {
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const std::int64_t length = offsets[i + 1] - offsets[i];
      if (length == k() || (has_more_ && length > k())) continue;
      throw_unequal(std::to_string(length) + " entries in row " +
                    std::to_string(begin + static_cast<std::int64_t>(i)));
    }
  }

  /// Rows at once where nothing lies between them, else one by one.
  void read_rows(std::int64_t begin, std::int64_t end, GlobalId* ids, float* distances) const {
    const std::vector<std::int64_t> offsets = matrix_->read_offsets(begin, end);
    check_lengths(begin, offsets);
    const std::int64_t step = has_more_ ? 1 : end - begin;
    for (std::int64_t row = 0; row < end - begin; row += step) {
      const auto count = narrow<std::size_t>(step * k());
      const std::span<float> wanted =
          distances == nullptr ? std::span<float>() : std::span(distances + row * k(), count);
      matrix_->read_entries(offsets[static_cast<std::size_t>(row)], {ids + row * k(), count}, wanted);
    }
  }
  void read_neighbors(std::int64_t begin, std::int64_t end, GlobalId* out) const override {
    read_rows(begin, end, out, nullptr);
  }
  void read_distances(std::int64_t begin, std::int64_t end, float* out) const override {
    std::vector<GlobalId> ids(narrow<std::size_t>((end - begin) * k()));
    read_rows(begin, end, ids.data(), out);
  }

  std::unique_ptr<CsrReader> matrix_;
  bool has_more_ = false;  // than k entries in a row
};

// --- ibin
// -------------------------------------------------------------------------------------------------------------

Attributes read_attributes_json(const std::string& path) {
  if (!exists(path)) return {};
  const nlohmann::json json = nlohmann::json::parse(read_text(path), nullptr, false);
  if (!json.is_object()) throw Error(ErrorKind::data, path + " is not a JSON object");
  Attributes attributes;
  for (const auto& [name, value] : json.items()) {
    if (value.is_number_integer()) attributes[name] = value.get<std::int64_t>();
    if (value.is_number_float()) attributes[name] = value.get<double>();
    if (value.is_string()) attributes[name] = value.get<std::string>();
  }
  return attributes;
}

class IbinResult final : public OpenedResult {
 public:
  explicit IbinResult(const std::string& path) : file_(File::open_read(path)) {
    std::array<std::uint32_t, 2> sizes{};
    file_.read_at(0, sizes.data(), sizeof sizes);
    const std::int64_t nq = sizes[0];
    const std::int64_t k = sizes[1];
    const std::uint64_t entries = std::uint64_t{sizes[0]} * sizes[1];
    const auto body = static_cast<std::uint64_t>(file_.size_bytes() - kHeaderBytes);
    // Divided, not multiplied: sizes that lie can overflow.
    const bool ids_only = body % 4 == 0 && body / 4 == entries;
    const bool with_distances = body % 8 == 0 && body / 8 == entries && entries > 0;
    if (!ids_only && !with_distances)
      throw Error(ErrorKind::data,
                  path + " has " + std::to_string(file_.size_bytes()) + " bytes; its header says " +
                      std::to_string(nq) + " x " + std::to_string(k) +
                      ", which takes 8 + 4 nq k bytes (ids) or 8 + 8 nq k (ids and distances)");
    set_shape(nq, k, with_distances);
    set_attributes(read_attributes_json(path + ".attributes.json"));
  }

 private:
  static constexpr std::int64_t kHeaderBytes = 8;

  void read_neighbors(std::int64_t begin, std::int64_t end, GlobalId* out) const override {
    std::vector<std::int32_t> ids(narrow<std::size_t>((end - begin) * k()));
    file_.read_at(kHeaderBytes + begin * k() * 4, ids.data(), ids.size() * sizeof(std::int32_t));
    std::ranges::copy(ids, out);
  }
  void read_distances(std::int64_t begin, std::int64_t end, float* out) const override {
    file_.read_at(kHeaderBytes + (nq() + begin) * k() * 4, out,
                  narrow<std::size_t>((end - begin) * k()) * sizeof(float));
  }

  File file_;
};

// --- files that are vector files too: npy, ivecs
// ----------------------------------------------------------------------

class SourceResult final : public OpenedResult {
 public:
  SourceResult(const std::string& neighbors_path, const std::string& distances_path, Attributes attributes)
      : neighbors_(open_source({neighbors_path, ""})) {
    if (neighbors_->dtype() != DType::i32 && neighbors_->dtype() != DType::i64)
      throw Error(ErrorKind::data, neighbors_path + " holds " + std::string(to_string(neighbors_->dtype())) +
                                       ", expected ids (i32 or i64)");
    if (!distances_path.empty()) open_distances(distances_path);
    set_shape(neighbors_->rows(), neighbors_->cols(), distances_ != nullptr);
    set_attributes(std::move(attributes));
  }

 private:
  void open_distances(const std::string& path) {
    distances_ = open_source({path, ""});
    if (distances_->dtype() != DType::f32 || distances_->rows() != neighbors_->rows() ||
        distances_->cols() != neighbors_->cols())
      throw Error(ErrorKind::data,
                  path + " is " + std::to_string(distances_->rows()) + " x " +
                      std::to_string(distances_->cols()) + " " + std::string(to_string(distances_->dtype())) +
                      ", expected f32 and the " + std::to_string(neighbors_->rows()) + " x " +
                      std::to_string(neighbors_->cols()) + " of " + neighbors_->name());
  }

  void read_neighbors(std::int64_t begin, std::int64_t end, GlobalId* out) const override {
    if (neighbors_->dtype() == DType::i64) {
      neighbors_->read_rows(begin, end, reinterpret_cast<std::byte*>(out));
      return;
    }
    std::vector<std::int32_t> ids(narrow<std::size_t>((end - begin) * k()));
    neighbors_->read_rows(begin, end, reinterpret_cast<std::byte*>(ids.data()));
    std::ranges::copy(ids, out);
  }
  void read_distances(std::int64_t begin, std::int64_t end, float* out) const override {
    distances_->read_rows(begin, end, reinterpret_cast<std::byte*>(out));
  }

  std::unique_ptr<VectorSource> neighbors_;
  std::unique_ptr<VectorSource> distances_;
};

// --- which one
// --------------------------------------------------------------------------------------------------------

std::string without_suffix(const std::string& path, std::string_view suffix) {
  return path.ends_with(suffix) ? path.substr(0, path.size() - suffix.size()) : path;
}

/// Opens an npy result by OUT or by the name of its neighbors file; nothing if `path` means neither.
std::unique_ptr<ResultReader> open_npy_result(const std::string& path) {
  const std::string stem = without_suffix(without_suffix(path, ".npy"), ".neighbors");
  const std::string neighbors = stem + ".neighbors.npy";
  const bool is_output_name = !exists(path) || path == neighbors;
  if (!is_output_name || !exists(neighbors)) return nullptr;
  Attributes attributes = read_attributes_json(stem + ".npy.attributes.json");
  if (attributes.empty()) attributes = read_attributes_json(stem + ".attributes.json");
  const std::string distances = stem + ".distances.npy";
  return std::make_unique<SourceResult>(neighbors, exists(distances) ? distances : "", std::move(attributes));
}

/// Opened in a child before it is opened here, for a damaged file can bring the HDF5 library down.
std::unique_ptr<ResultReader> open_hdf5_result(const std::string& path) {
  if (holds_csr(path)) return std::make_unique<SparseResult>(path);
  try_in_child(path, [&] {
    const Hdf5Result result(path);
    if (result.nq() == 0) return;
    result.read(0, 1);
    result.read(result.nq() - 1, result.nq());
  });
  return std::make_unique<Hdf5Result>(path);
}

/// FILE:DATASET names vectors, not results.
void refuse_dataset(const std::string& path) {
  const InputSpec spec = parse_input_spec(path);
  if (!exists(path) && !spec.dataset.empty() && exists(spec.path))
    throw Error(ErrorKind::usage, path +
                                      ": a result or ground truth is a whole file, of which `neighbors` and "
                                      "`distances` are read; give " +
                                      spec.path);
}

}  // namespace

std::unique_ptr<ResultReader> open_result(const std::string& path) {
  refuse_dataset(path);
  if (std::unique_ptr<ResultReader> npy = open_npy_result(path)) return npy;
  open_data_file(path);  // missing, forbidden, empty or no regular file: said here
  if (path.ends_with(".npy") || path.ends_with(".ivecs"))
    return std::make_unique<SourceResult>(path, "", Attributes{});
  if (path.ends_with(".ibin") || exists(path + ".attributes.json")) return std::make_unique<IbinResult>(path);
  if (has_hdf5_signature(path)) return open_hdf5_result(path);
  throw Error(ErrorKind::data, path +
                                   " is not an HDF5 file; results and ground truth are read from HDF5, .npy, "
                                   ".ibin and .ivecs");
}

}  // namespace mpishards::io

#include "io/faiss_layout.hpp"

#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/narrow.hpp"
#include "io/vector_source_contiguous.hpp"
#include "io/vector_source_registry.hpp"

namespace mpishards::io {

namespace {

constexpr std::int64_t kIdBytes = sizeof(GlobalId);
/// FAISS numbers its metrics; from 2 on a header has a parameter of the metric, too.
constexpr std::int32_t kInnerProduct = 0;
constexpr std::int32_t kSquaredL2 = 1;
/// A field of FAISS' header that once had a meaning.
constexpr std::int64_t kUnused = std::int64_t{1} << 20;

constexpr std::string_view kSupported =
    "IndexFlatL2, IndexFlatIP and IndexIVFFlat, alone or in an IndexIDMap";

/// The first four bytes of a file, and the class that FAISS writes them for.
constexpr std::pair<std::string_view, std::string_view> kOtherTypes[] = {
    {"IwFd", "IndexIVFFlatDedup"},
    {"IvFl", "IndexIVFFlat of an old version"},
    {"IvFL", "IndexIVFFlat of an old version"},
    {"IwPn", "IndexIVFFlatPanorama"},
    {"IxPq", "IndexPQ"},
    {"IvPQ", "IndexIVFPQ"},
    {"IwPQ", "IndexIVFPQ"},
    {"IvQR", "IndexIVFPQR"},
    {"IwQR", "IndexIVFPQR"},
    {"IxSQ", "IndexScalarQuantizer"},
    {"IwSQ", "IndexIVFScalarQuantizer"},
    {"IwSq", "IndexIVFScalarQuantizer"},
    {"IPfs", "IndexPQFastScan"},
    {"IwPf", "IndexIVFPQFastScan"},
    {"IHNf", "IndexHNSWFlat"},
    {"IHNp", "IndexHNSWPQ"},
    {"IHNs", "IndexHNSWSQ"},
    {"IHN2", "IndexHNSW2Level"},
    {"INSf", "IndexNSGFlat"},
    {"IxHE", "IndexLSH"},
    {"IxHe", "IndexLSH"},
    {"IxPT", "IndexPreTransform"},
    {"IxRF", "IndexRefineFlat"},
    {"IxMp", "IndexIDMap"},
    {"IxM2", "IndexIDMap2"},
    {"IwFl", "IndexIVFFlat"},
    {"IBxF", "IndexBinaryFlat"},
    {"IBwF", "IndexBinaryIVF"},
};

[[noreturn]] void throw_damaged(const std::string& path, const std::string& found) {
  throw Error(ErrorKind::data, path + " is damaged: " + found + "; copy or write the FAISS file again");
}

std::string printable(const std::string& type) {
  const bool is_text = std::ranges::all_of(type, [](unsigned char c) { return std::isgraph(c) != 0; });
  if (is_text) return "'" + type + "'";
  std::uint64_t bytes = 0;
  for (const unsigned char c : type) bytes = bytes << 8 | c;
  return "0x" + hex(bytes).substr(2 * sizeof(std::uint32_t));
}

/// @param what  has this type: "" for the whole file
[[noreturn]] void throw_unsupported(const std::string& path, const std::string& what,
                                    const std::string& type) {
  for (const auto& [known, name] : kOtherTypes)
    if (type == known)
      throw Error(ErrorKind::data, path + (what.empty() ? " holds a FAISS " : ": " + what + " is a FAISS ") +
                                       std::string(name) +
                                       ", which is not read; known: " + std::string(kSupported) +
                                       "; make the index of the vectors themselves");
  throw Error(ErrorKind::data, path +
                                   (what.empty() ? " is no FAISS file that is known here: it" : ": " + what) +
                                   " begins with " + printable(type) + "; known: " + std::string(kSupported));
}

/// A file's header, front to back; never beyond the file's end.
class Cursor {
 public:
  explicit Cursor(const File& file) : file_(file), size_(file.size_bytes()) {}

  const std::string& path() const { return file_.path(); }
  std::int64_t at() const { return at_; }
  std::int64_t size() const { return size_; }

  /// Passes over what is read elsewhere.
  void skip(std::int64_t count, std::int64_t bytes_each, const char* what) {
    if (count < 0 || count > (size_ - at_) / bytes_each)
      throw Error(ErrorKind::data, path() + " ends at byte " + std::to_string(size_) + ", inside " + what +
                                       " (" + std::to_string(count) + " of " + std::to_string(bytes_each) +
                                       " bytes from byte " + std::to_string(at_) +
                                       " on); it is truncated or damaged, copy or write it again");
    at_ += count * bytes_each;
  }
  template <class T>
  T take(const char* what) {
    T value{};
    take_into(std::span(&value, 1), what);
    return value;
  }
  template <class T>
  std::vector<T> take_array(std::int64_t count, const char* what) {
    skip(count, sizeof(T), what);  // before memory is asked for
    at_ -= count * static_cast<std::int64_t>(sizeof(T));
    std::vector<T> values(static_cast<std::size_t>(count));
    take_into(std::span(values), what);
    return values;
  }
  std::string take_type(const char* what) {
    const auto bytes = take<std::array<char, 4>>(what);
    return {bytes.begin(), bytes.end()};
  }
  /// Unsigned in the file; what int64 can't hold comes out negative.
  std::int64_t take_count(const char* what) { return take<std::int64_t>(what); }

 private:
  template <class T>
  void take_into(std::span<T> out, const char* what) {
    const std::int64_t begin = at_;
    skip(std::ssize(out), sizeof(T), what);
    file_.read_at(begin, out.data(), out.size_bytes());
  }

  const File& file_;
  std::int64_t size_;
  std::int64_t at_ = 0;
};

/// What every index of FAISS begins with.
struct IndexHeader {
  std::int64_t d = 0;
  std::int64_t rows = 0;
  Metric metric = Metric::l2;
};

IndexHeader take_header(Cursor& in) {
  IndexHeader header;
  header.d = in.take<std::int32_t>("the dimension");
  header.rows = in.take_count("the number of rows");
  in.take<std::int64_t>("the header");
  in.take<std::int64_t>("the header");
  in.take<std::uint8_t>("the header");
  const auto metric = in.take<std::int32_t>("the metric");
  if (metric != kInnerProduct && metric != kSquaredL2)
    throw Error(ErrorKind::data, in.path() + " compares by metric " + std::to_string(metric) +
                                     " of FAISS, expected METRIC_INNER_PRODUCT (0) or METRIC_L2 (1)");
  header.metric = metric == kInnerProduct ? Metric::ip : Metric::l2;
  return header;
}

bool is_flat(const std::string& type) {
  return type == "IxF2" || type == "IxFI" || type == "IxFl";
}

/// Passes over a flat index. @return its header, and where its vectors begin
std::pair<IndexHeader, std::int64_t> take_flat(Cursor& in, const char* what) {
  const IndexHeader header = take_header(in);
  matrix_bytes(in.path(), header.rows, header.d, DType::f32);
  const std::int64_t values = in.take_count(what);
  if (values != header.rows * header.d)
    throw_damaged(in.path(),
                  std::to_string(values) + " values for " + shape_text(header.rows, header.d, DType::f32));
  const std::int64_t offset = in.at();
  in.skip(header.rows, header.d * static_cast<std::int64_t>(sizeof(float)), what);
  return {header, offset};
}

FaissLayout take_flat_layout(Cursor& in) {
  const auto [header, offset] = take_flat(in, "the vectors");
  return {.metric = header.metric, .d = header.d, .starts = {0, header.rows}, .rows_offset = offset};
}

/// What FAISS finds a row's list with; nothing depends on it.
void skip_direct_map(Cursor& in) {
  constexpr std::uint8_t kHashTable = 2;
  const auto kind = in.take<std::uint8_t>("the direct map");
  if (kind > kHashTable) throw_damaged(in.path(), "direct map of kind " + std::to_string(kind));
  in.skip(in.take_count("the direct map"), kIdBytes, "the direct map");
  if (kind == kHashTable) in.skip(in.take_count("the direct map"), 2 * kIdBytes, "the direct map");
}

void require_inside_lists(const Cursor& in, const std::string& type) {
  if (type == "ilar") return;
  if (type == "il00") throw_damaged(in.path(), "it has no lists");
  throw Error(ErrorKind::data, in.path() + " keeps its lists elsewhere or in another form (" +
                                   printable(type) +
                                   "), expected ArrayInvertedLists ('ilar'); in FAISS, write a copy of the "
                                   "index with such lists");
}

std::vector<std::int64_t> take_list_sizes(Cursor& in, std::int64_t nlist) {
  const std::string form = in.take_type("the sizes of the lists");
  const std::int64_t count = in.take_count("the sizes of the lists");
  const auto numbers = in.take_array<std::int64_t>(count, "the sizes of the lists");
  if (form == "full" && count == nlist) return numbers;
  if (form != "sprs" || count % 2 != 0 || count / 2 > nlist)
    throw_damaged(in.path(), std::to_string(count) + " sizes of the form " + printable(form) + " for " +
                                 std::to_string(nlist) + " lists");
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(nlist));
  for (std::size_t i = 0; i < numbers.size(); i += 2) {
    if (numbers[i] < 0 || numbers[i] >= nlist)
      throw_damaged(in.path(), "list " + std::to_string(numbers[i]) + " of " + std::to_string(nlist));
    sizes[static_cast<std::size_t>(numbers[i])] = numbers[i + 1];
  }
  return sizes;
}

/// @param rows  that the header speaks of; at most as many as fit into the file
std::vector<std::int64_t> starts_of(const Cursor& in, const std::vector<std::int64_t>& sizes,
                                    std::int64_t rows) {
  std::vector<std::int64_t> starts = {0};
  starts.reserve(sizes.size() + 1);
  for (const std::int64_t size : sizes) {
    if (size < 0 || size > rows - starts.back())
      throw_damaged(in.path(), "list " + std::to_string(starts.size() - 1) + " has " + std::to_string(size) +
                                   " rows, and " + std::to_string(starts.back()) +
                                   " lie before it, of a total of " + std::to_string(rows));
    starts.push_back(starts.back() + size);
  }
  if (starts.back() != rows)
    throw_damaged(in.path(), "its lists have " + std::to_string(starts.back()) + " rows, its header says " +
                                 std::to_string(rows));
  return starts;
}

FaissLayout take_lists(Cursor& in) {
  const IndexHeader header = take_header(in);
  matrix_bytes(in.path(), header.rows, header.d, DType::f32);
  const std::int64_t nlist = in.take_count("the number of lists");
  in.take_count("nprobe");
  const std::string type = in.take_type("the coarse quantizer");
  if (!is_flat(type)) throw_unsupported(in.path(), "the coarse quantizer", type);
  const auto [centroids, centroids_offset] = take_flat(in, "the centroids");
  skip_direct_map(in);
  require_inside_lists(in, in.take_type("the lists"));
  const std::int64_t lists = in.take_count("the number of lists");
  const std::int64_t code_bytes = in.take_count("the size of a row");
  const std::int64_t row_bytes = header.d * static_cast<std::int64_t>(sizeof(float));
  if (centroids.rows != nlist || lists != nlist || centroids.d != header.d || code_bytes != row_bytes ||
      nlist > std::numeric_limits<std::int32_t>::max())
    throw_damaged(in.path(), std::to_string(nlist) + " lists, " +
                                 shape_text(centroids.rows, centroids.d, DType::f32) + " centroids, " +
                                 std::to_string(lists) + " lists of rows of " + std::to_string(code_bytes) +
                                 " bytes, d = " + std::to_string(header.d));
  const std::vector<std::int64_t> sizes = take_list_sizes(in, nlist);
  const std::int64_t rows_offset = in.at();
  in.skip(header.rows, row_bytes + kIdBytes, "the rows of the lists");
  return {.metric = header.metric,
          .d = header.d,
          .has_lists = true,
          .has_ids = true,
          .starts = starts_of(in, sizes, header.rows),
          .centroids_offset = centroids_offset,
          .centroid_metric = centroids.metric,
          .rows_offset = rows_offset};
}

FaissLayout take_id_map(Cursor& in) {
  const IndexHeader outer = take_header(in);
  const std::string type = in.take_type("the index in the IndexIDMap");
  const bool has_lists = type == "IwFl";
  if (!has_lists && !is_flat(type)) throw_unsupported(in.path(), "what lies in the IndexIDMap", type);
  FaissLayout layout = has_lists ? take_lists(in) : take_flat_layout(in);
  const std::int64_t ids = in.take_count("the number of ids");
  if (ids != layout.rows() || outer.rows != layout.rows() || outer.d != layout.d)
    throw_damaged(in.path(), std::to_string(ids) + " ids and " + shape_text(outer.rows, outer.d, DType::f32) +
                                 " for " + shape_text(layout.rows(), layout.d, DType::f32));
  if (has_lists)
    layout.id_map_offset = in.at();
  else
    layout.ids_gap = sizeof(std::int64_t);  // the number of ids
  layout.has_ids = true;
  in.skip(ids, kIdBytes, "the ids");
  return layout;
}

FaissLayout take_layout(Cursor& in) {
  const std::string type = in.take_type("the type of the index");
  if (is_flat(type)) return take_flat_layout(in);
  if (type == "IxMp" || type == "IxM2") return take_id_map(in);
  if (type == "IwFl") return take_lists(in);
  throw_unsupported(in.path(), "", type);
}

/// Lengths differ by less than rounding to float32 makes them differ.
bool are_equally_long(MatrixView<const float> rows) {
  constexpr double kShare = 1e-5;
  double shortest = std::numeric_limits<double>::infinity();
  double longest = 0;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    double squares = 0;
    for (std::int64_t j = 0; j < rows.cols; ++j)
      squares += static_cast<double>(rows.row(r)[j]) * static_cast<double>(rows.row(r)[j]);
    shortest = std::min(shortest, squares);
    longest = std::max(longest, squares);
  }
  return longest - shortest <= kShare * longest;
}

void append(std::string& bytes, std::string_view text) {
  bytes.append(text);
}
template <class T>
void append(std::string& bytes, T value) {
  std::array<char, sizeof(T)> raw{};
  std::memcpy(raw.data(), &value, sizeof(T));
  bytes.append(raw.data(), raw.size());
}

std::string header_bytes(const std::string& path, std::string_view type, Metric metric, std::int64_t rows,
                         std::int64_t d) {
  if (!std::in_range<std::int32_t>(d))
    throw Error(ErrorKind::usage, path + ": d = " + std::to_string(d) + " does not fit FAISS' header");
  std::string bytes(type);
  append(bytes, static_cast<std::int32_t>(d));
  append(bytes, rows);
  append(bytes, kUnused);
  append(bytes, kUnused);
  append(bytes, std::uint8_t{1});  // is trained
  append(bytes, metric == Metric::l2 ? kSquaredL2 : kInnerProduct);
  return bytes;
}

std::string flat_bytes(const std::string& path, Metric metric, std::int64_t rows, std::int64_t d) {
  std::string bytes = header_bytes(path, metric == Metric::l2 ? "IxF2" : "IxFI", metric, rows, d);
  append(bytes, rows * d);
  return bytes;
}

void require_faiss_metric(Metric metric) {
  if (metric == Metric::cosine)
    throw Error(ErrorKind::internal, "FAISS has no cosine; its inner product of rows of length 1 is it");
}

}  // namespace

std::int64_t FaissLayout::vectors_at(std::int64_t list) const {
  return rows_offset + start(list) * (row_bytes() + (has_ids ? kIdBytes : 0)) + list * ids_gap;
}

std::int64_t FaissLayout::ids_at(std::int64_t list) const {
  return vectors_at(list) + (start(list + 1) - start(list)) * row_bytes() + ids_gap;
}

bool is_faiss_path(const std::string& path) {
  return format_of(path) == "faiss";
}

FaissLayout read_faiss_layout(const File& file) {
  Cursor in(file);
  FaissLayout layout = take_layout(in);
  if (in.at() != in.size())
    throw_damaged(in.path(), shape_text(layout.rows(), layout.d, DType::f32) + " end at byte " +
                                 std::to_string(in.at()) + ", the file at byte " + std::to_string(in.size()));
  return layout;
}

FaissLayout read_faiss_layout(const std::string& path) {
  return read_faiss_layout(open_data_file(path));
}

IndexLists read_faiss_lists(const std::string& path, const FaissLayout& layout) {
  IndexLists lists{.centroids = Matrix(DType::f32, layout.nlist(), layout.d),
                   .codec = Matrix(DType::f32, 0, layout.d),
                   .starts = layout.starts};
  File::open_read(path).read_at(layout.centroids_offset, lists.centroids.data(), lists.centroids.bytes());
  const TypedView centroids = lists.centroids.view();
  if (const std::optional<std::int64_t> bad = first_nonfinite_row(centroids))
    throw Error(ErrorKind::data, path + ": the centroid of list " + std::to_string(*bad) +
                                     " holds NaN or an infinity; train the index again in FAISS");
  if (layout.centroid_metric != layout.metric && !are_equally_long(centroids.as<float>()))
    throw Error(ErrorKind::data,
                path + " compares rows by " + std::string(to_string(layout.metric)) + " and centroids by " +
                    std::string(to_string(layout.centroid_metric)) +
                    ", which finds other lists; in FAISS, train it with a quantizer of the same metric");
  return lists;
}

FaissLayout start_faiss_flat(const File& file, Metric metric, std::int64_t rows, std::int64_t d,
                             bool with_ids) {
  require_faiss_metric(metric);
  std::string bytes;
  if (with_ids) bytes = header_bytes(file.path(), "IxM2", metric, rows, d);
  append(bytes, std::string_view(flat_bytes(file.path(), metric, rows, d)));
  file.write_at(0, bytes.data(), bytes.size());
  FaissLayout layout{.metric = metric,
                     .d = d,
                     .has_ids = with_ids,
                     .starts = {0, rows},
                     .rows_offset = std::ssize(bytes),
                     .ids_gap = with_ids ? std::int64_t{sizeof(rows)} : 0};
  if (with_ids) file.write_at(layout.ids_at(0) - layout.ids_gap, &rows, sizeof(rows));
  return layout;
}

FaissLayout start_faiss_lists(const File& file, Metric metric, const IndexLists& lists) {
  require_faiss_metric(metric);
  const std::int64_t nlist = lists.centroids.rows();
  const std::int64_t d = lists.centroids.cols();
  FaissLayout layout{.metric = metric,
                     .d = d,
                     .has_lists = true,
                     .has_ids = true,
                     .starts = lists.starts,
                     .centroid_metric = metric};
  std::string before = header_bytes(file.path(), "IwFl", metric, layout.rows(), d);
  append(before, nlist);
  append(before, std::int64_t{1});  // nprobe
  append(before, std::string_view(flat_bytes(file.path(), metric, nlist, d)));
  layout.centroids_offset = std::ssize(before);
  std::string behind(1, '\0');  // no direct map, of no rows
  append(behind, std::int64_t{0});
  append(behind, std::string_view("ilar"));
  append(behind, nlist);
  append(behind, layout.row_bytes());
  append(behind, std::string_view("full"));
  append(behind, nlist);
  for (std::int64_t list = 0; list < nlist; ++list)
    append(behind, layout.start(list + 1) - layout.start(list));
  file.write_at(0, before.data(), before.size());
  file.write_at(layout.centroids_offset, lists.centroids.data(), lists.centroids.bytes());
  const std::int64_t lists_offset = layout.centroids_offset + narrow<std::int64_t>(lists.centroids.bytes());
  file.write_at(lists_offset, behind.data(), behind.size());
  layout.rows_offset = lists_offset + std::ssize(behind);
  return layout;
}

}  // namespace mpishards::io

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/types.hpp"
#include "io/input_spec.hpp"

namespace mpishards::io {

/// How a file holds an element, which may be in a type narrower than the one it is read as.
struct StoredElement {
  std::string type;  // "f32", "u16", ...
  std::size_t bytes = 0;
};

/// Rows of vectors (or of ids) in a file: rows x cols of one dtype, read by ranges of rows.
///
/// Header and file size are checked against each other when the source is opened, so a later read fails only
/// if the file changes or the device fails. Any number of threads may read at once, into memory of their own.
class VectorSource {
 public:
  virtual ~VectorSource() = default;

  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;
  virtual DType dtype() const = 0;
  virtual StoredElement stored_element() const {
    return {std::string(to_string(dtype())), size_bytes(dtype())};
  }
  /// "FILE" or "FILE:DATASET", for messages and attributes.
  virtual const std::string& name() const = 0;
  /// Name of the format in the registry: "hdf5", "xbin", "xvecs", "npy".
  virtual std::string_view format() const = 0;
  /// Human words on how rows are stored ("contiguous", "chunked 256x784, deflate"), for `info`.
  virtual std::string layout() const { return "contiguous"; }

  /// Reads rows [begin, end) row-major, in native byte order.
  /// @param[out] out  (end - begin) * cols * size_bytes(dtype) bytes
  /// @pre 0 <= begin <= end <= rows()
  /// @throws Error{io|data} naming the file and the rows
  virtual void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const = 0;

  /// False where readers wait for each other, or unpack the same bytes once each: then one is as quick as
  /// many.
  virtual bool is_read_in_parallel() const { return true; }

  /// True where the file carries ids of its own (an HDF5 data set `ids` beside the vectors, one per row).
  virtual bool has_ids() const { return false; }
  /// Why the ids that lie beside the vectors cannot be theirs, or empty. A base is refused then; the queries
  /// in the same file need no ids.
  virtual std::string ids_problem() const { return {}; }
  /// Reads the ids of rows [begin, end). @pre has_ids() @throws Error{data} on a negative id
  virtual void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const;

  /// Where row `row` comes from, for messages: file name and row within it.
  virtual std::string describe_row(std::int64_t row) const { return name() + " row " + std::to_string(row); }

  Matrix read_matrix(std::int64_t begin, std::int64_t end) const;
};

/// Opens one file; the format is chosen by suffix (registry), then checked against the contents.
/// @throws Error{input_missing|permission|data|io}; an unknown suffix is Error{usage} listing the known ones
std::unique_ptr<VectorSource> open_source(const InputSpec& spec);

/// Several sources, row after row, as one. Same cols and dtype everywhere, ids in all or none.
/// @throws Error{data} naming the two files that differ ("b.h5 has d = 96, a.h5 has d = 128")
std::unique_ptr<VectorSource> concatenate(std::vector<std::unique_ptr<VectorSource>> sources);

/// open_source for each and concatenate. @pre !specs.empty()
std::unique_ptr<VectorSource> open_sources(const std::vector<InputSpec>& specs);

/// Opens the file in a forked child first, reads its first and last row there, and throws Error{data} if that
/// child crashes or takes longer than 20 s (damaged HDF5 files can bring the HDF5 library down). Other
/// formats return at once. Errors that the child reports come out here with their own kind and text.
/// @par Cost  a fork, one open of the file and two rows
void probe_in_child(const InputSpec& spec);
/// The same for the list of a file's data sets, see list_datasets.
void probe_listing_in_child(const std::string& path);

/// Suffixes and formats, one row each, for --help: ".fbin  big-ann float32 ...".
struct FormatRow {
  std::string_view suffix;
  std::string_view format;
  std::string_view help;
};
std::span<const FormatRow> vector_formats();

}  // namespace mpishards::io

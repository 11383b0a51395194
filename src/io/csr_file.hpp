#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/topk.hpp"
#include "io/file.hpp"
#include "io/results_writer.hpp"

/// Sparse matrices (CSR) of ids and distances in HDF5, with rows of any length: `indptr` int64 rows + 1,
/// `indices` int64 nnz, `data` float32 nnz, and where clusters are asked for `component` int64 rows and
/// `keep` uint8 rows.
///
/// An output is made by create_csr, filled through CsrSlices by any number of processes, and published by
/// publish_result(out, ResultFormat::csr, attributes); partial_exists, remove_partial and result_paths of
/// that format are its own too.
namespace mpishards::io {

struct CsrShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // rows of the base; in a finished file the attribute nb
  std::int64_t nnz = 0;
  bool has_clusters = false;
};

/// Where the arrays of an unfinished matrix lie, so that any process can write its part with pwrite.
struct CsrLayout {
  std::string path;
  CsrShape shape;
  std::int64_t indptr_offset = 0;
  std::int64_t indices_offset = 0;
  std::int64_t data_offset = 0;
  std::int64_t component_offset = 0;  // of these two only where has_clusters
  std::int64_t keep_offset = 0;

  /// One line of text and back, for broadcasting.
  std::string serialize() const;
  static CsrLayout deserialize(const std::string& text);
};

/// Creates OUT.partial with space for every array, reserved on disk, so that a full disk is noticed now. The
/// arrays are unfilled. Only one process (rank 0) calls this.
/// @throws Error{cannot_create} if it can't be made or the disk is full; Error{permission}
CsrLayout create_csr(const std::string& out_path, const CsrShape& shape);
/// The layout of an existing OUT.partial; undoes a publication that was killed. @throws Error{data} if it has
/// not this shape
CsrLayout adopt_csr(const std::string& out_path, const CsrShape& shape);

/// Consecutive rows of a matrix.
struct CsrRows {
  std::int64_t first_row = 0;
  std::vector<std::int64_t> offsets;  // of every row and of the end, counted from the file's first entry
  std::vector<GlobalId> ids;
  std::vector<float> distances;

  std::int64_t rows() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  /// @param i  counted from first_row
  ConstNeighborRow row(std::int64_t i) const;
};

/// A sparse matrix in a file, read by ranges. What is read is checked: row starts never go back and lie
/// within the entries, no id is below kNoNeighbor.
class CsrSource {
 public:
  virtual ~CsrSource() = default;
  virtual const std::string& name() const = 0;
  virtual const CsrShape& shape() const = 0;

  /// Starts of rows [begin, end) and the end of the last: end - begin + 1 numbers.
  /// @pre 0 <= begin <= end <= rows @throws Error{data|io}
  std::vector<std::int64_t> read_offsets(std::int64_t begin, std::int64_t end) const;
  /// Entries [first, first + ids.size()), wherever rows begin. `distances` may be empty: they are not read.
  /// @pre distances.empty() || distances.size() == ids.size() @throws Error{data|io}
  void read_entries(std::int64_t first, std::span<GlobalId> ids, std::span<float> distances) const;

  /// Rows [begin, end), held whole. @throws Error{data|io}
  CsrRows read_rows(std::int64_t begin, std::int64_t end) const;
  /// As many rows from `begin` as have at most max_entries entries together, but at least one, at most
  /// max_rows.
  /// @pre begin < rows, max_entries >= 0, max_rows >= 1 @throws Error{data|io}
  /// @par Cost  8 bytes a row and 12 an entry, held
  CsrRows read_block(std::int64_t begin, std::int64_t max_entries, std::int64_t max_rows) const;

 private:
  virtual void load_offsets(std::int64_t first, std::span<std::int64_t> out) const = 0;
  virtual void load_ids(std::int64_t first, std::span<GlobalId> out) const = 0;
  virtual void load_distances(std::int64_t first, std::span<float> out) const = 0;
};

/// Called with a row's number and some of its entries, see for_each_piece.
using CsrVisitor = std::function<void(std::int64_t row, ConstNeighborRow entries)>;

/// Walks the entries of rows [begin, end) in order; a row longer than block_entries comes in several pieces,
/// a row without entries not at all.
/// @pre block_entries >= 1 @throws Error{data|io} and what `visit` throws
/// @par Cost  one read of the rows; 8 bytes a row and 12 an entry of a block, held
void for_each_piece(const CsrSource& matrix, std::int64_t begin, std::int64_t end, std::int64_t block_entries,
                    const CsrVisitor& visit);

/// Writes and re-reads parts of an unfinished matrix. Any number of processes may do so on disjoint parts.
class CsrSlices final : public CsrSource {
 public:
  /// @throws Error{io} where this host doesn't see the file
  explicit CsrSlices(const CsrLayout& layout);

  const std::string& name() const override { return layout_.path; }
  const CsrShape& shape() const override { return layout_.shape; }

  /// Sets row starts from indptr[first] on. @pre they lie within the rows + 1
  void write_offsets(std::int64_t first, std::span<const std::int64_t> offsets) const;
  /// @pre ids.size() == distances.size(); they lie within the nnz
  void write_entries(std::int64_t first, std::span<const GlobalId> ids,
                     std::span<const float> distances) const;
  /// @pre has_clusters; they lie within the rows
  void write_components(std::int64_t first_row, std::span<const GlobalId> components) const;
  void write_keep(std::int64_t first_row, std::span<const std::uint8_t> keep) const;
  void read_components(std::int64_t first_row, std::span<GlobalId> out) const;
  void read_keep(std::int64_t first_row, std::span<std::uint8_t> out) const;
  void sync() const { file_.sync(); }

 private:
  void require_clusters() const;
  void load_offsets(std::int64_t first, std::span<std::int64_t> out) const override;
  void load_ids(std::int64_t first, std::span<GlobalId> out) const override;
  void load_distances(std::int64_t first, std::span<float> out) const override;
  template <class T>
  std::int64_t place(std::int64_t offset, std::int64_t length, std::int64_t first, std::span<T> values) const;

  CsrLayout layout_;
  File file_;
};

/// A finished matrix: a graph, or the output of range or join.
class CsrReader : public CsrSource {
 public:
  virtual const Attributes& attributes() const = 0;
};
/// @throws Error{input_missing|permission}; Error{data} where a data set is missing, has another type, or
/// their lengths and the ends of indptr contradict each other
std::unique_ptr<CsrReader> open_csr(const std::string& path);

/// Whether an HDF5 file holds a sparse matrix. @pre it is an HDF5 file @throws Error{data} if it is damaged
bool holds_csr(const std::string& path);
/// The output of range or join, which the attribute eps marks; nothing where the file is no such matrix.
/// @throws Error as open_csr
std::unique_ptr<CsrReader> open_range_matrix(const std::string& path);

}  // namespace mpishards::io

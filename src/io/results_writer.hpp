#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/metric.hpp"
#include "core/topk.hpp"
#include "io/file.hpp"

namespace mpishards::io {

/// h5: one HDF5 file; npy: OUT's stem + .neighbors.npy/.distances.npy; ibin: big-ann nq, k, int32 ids,
/// float32 distances; csr: one HDF5 file with the arrays of a sparse matrix of nq rows with k entries each.
enum class ResultFormat : std::uint8_t { h5, npy, ibin, csr };
std::string_view to_string(ResultFormat format);
/// @throws Error{usage}
ResultFormat result_format_from_string(std::string_view text);
/// By OUT's suffix: .npy, .ibin; h5 for others, never csr. @throws Error{usage} for that of a format results
/// do not have
ResultFormat result_format_of(const std::string& out_path);

/// Attribute name to value. In HDF5 files attributes of the root group, else a JSON file OUT.attributes.json.
using Attribute = std::variant<std::int64_t, double, std::string>;
using Attributes = std::map<std::string, Attribute>;

/// Where the two arrays of an unfinished result lie, so that any process can write its rows with pwrite.
struct ResultLayout {
  std::string neighbors_path;
  std::string distances_path;
  std::int64_t neighbors_offset = 0;
  std::int64_t distances_offset = 0;
  std::int64_t nq = 0;
  std::int64_t k = 0;
  std::int32_t id_bytes = 8;  // 4 in ibin
  bool may_create = false;    // checkpoints: whoever opens the slices first makes the file

  std::int64_t neighbors_bytes() const;
  std::int64_t distances_bytes() const;

  /// One line of text and back, for broadcasting.
  std::string serialize() const;
  static ResultLayout deserialize(const std::string& text);
};

enum class OutputKind : std::uint8_t { file, directory };

/// Checks that OUT can be a file, or a directory, where it is to lie, before any work is done.
/// @throws Error{cannot_create} if its folder is missing or OUT is of the other kind; Error{permission}
void require_output_place(const std::string& out_path, OutputKind kind = OutputKind::file);

/// Creates OUT.partial with space for nq x k (reserved on disk, so that a full disk is noticed now), or
/// adopts the one that a stopped run left. Only one process (rank 0) calls this.
/// @throws Error{cannot_create} if it can't be made or the disk is full; Error{permission};
///         Error{usage} if ids above 2^31 - 1 meet ibin
ResultLayout create_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k,
                           std::int64_t max_id);
/// The layout of an existing OUT.partial; undoes a publication that was killed. @throws Error{data}
/// if it has not this shape
ResultLayout adopt_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k);

/// Final names that create_result would produce: refused up front when they exist and --overwrite is absent.
std::vector<std::string> result_paths(const std::string& out_path, ResultFormat format);
bool partial_exists(const std::string& out_path, ResultFormat format);
void remove_partial(const std::string& out_path, ResultFormat format);

/// Writes and re-reads rows of an unfinished result. Any number of processes may do so on disjoint rows.
class ResultSlices {
 public:
  explicit ResultSlices(const ResultLayout& layout);
  void write(std::int64_t first_query, const TopK& rows) const;
  TopK read(std::int64_t first_query, std::int64_t nq, Metric metric) const;
  void sync() const;

 private:
  ResultLayout layout_;
  File neighbors_;
  File distances_;
};

/// Sets the attributes, syncs, and renames OUT.partial to OUT. Only rank 0, after all slices were synced.
void publish_result(const std::string& out_path, ResultFormat format, const Attributes& attributes);

/// A finished result of any format, for eval and merge. Also reads ann-benchmarks truth files (int32 ids,
/// float64 distances, `neighbors`/`distances`) and .ivecs/.ibin truth with ids only.
class ResultReader {
 public:
  virtual ~ResultReader() = default;
  virtual std::int64_t nq() const = 0;
  virtual std::int64_t k() const = 0;
  virtual bool has_distances() const = 0;
  virtual const Attributes& attributes() const = 0;
  /// Rows [begin, end); distances are 0 where the file has none.
  virtual TopK read(std::int64_t begin, std::int64_t end) const = 0;
};
/// @throws Error{input_missing|data}
std::unique_ptr<ResultReader> open_result(const std::string& path);

}  // namespace mpishards::io

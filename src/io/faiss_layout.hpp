#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "io/file.hpp"
#include "io/index_directory.hpp"
#include "io/range.hpp"

/// Files of faiss::write_index whose index keeps whole float32 vectors: IndexFlatL2, IndexFlatIP and
/// IndexIVFFlat, alone or in an IndexIDMap or IndexIDMap2. Read and written without FAISS, whose reader
/// trusts every number in a file and takes all of it into memory.
namespace mpishards::io {

/// Where everything lies in such a file. A flat index is one list.
struct FaissLayout {
  Metric metric = Metric::l2;  // l2 or ip: FAISS has no cosine
  std::int64_t d = 0;
  bool has_lists = false;             // IndexIVFFlat
  bool has_ids = false;               // always with lists
  std::vector<std::int64_t> starts;   // of the lists, and their end: rows in list order
  std::int64_t centroids_offset = 0;  // nlist() x d float32; 0 without lists
  Metric centroid_metric = Metric::l2;
  std::int64_t rows_offset = 0;  // vectors of list 0, its ids, vectors of list 1, ...
  std::int64_t ids_gap = 0;      // bytes between a list's vectors and its ids
  // An IndexIDMap of lists: what stands as ids in them are numbers of the ids here. 0: there is none.
  std::int64_t id_map_offset = 0;

  std::int64_t rows() const { return starts.back(); }
  std::int64_t nlist() const { return static_cast<std::int64_t>(starts.size()) - 1; }
  std::int64_t row_bytes() const { return d * static_cast<std::int64_t>(sizeof(float)); }
  std::int64_t start(std::int64_t list) const { return starts[static_cast<std::size_t>(list)]; }
  /// List of a row. @pre 0 <= row < rows()
  std::int64_t list_of(std::int64_t row) const {
    return std::upper_bound(starts.begin(), starts.end(), row) - starts.begin() - 1;
  }
  /// First byte of a list's vectors; behind the last list the end of the file.
  std::int64_t vectors_at(std::int64_t list) const;
  /// First byte of a list's ids. @pre has_ids
  std::int64_t ids_at(std::int64_t list) const;

  /// Calls visit(list, Range of rows within the list) for each list that has rows in a range, in order.
  template <class Visit>
  void for_each_piece(Range rows, const Visit& visit) const {
    if (rows.begin == rows.end) return;
    for (std::int64_t list = list_of(rows.begin); list < nlist() && start(list) < rows.end; ++list) {
      const std::int64_t begin = std::max(rows.begin, start(list));
      const std::int64_t end = std::min(rows.end, start(list + 1));
      if (begin < end) visit(list, Range{begin - start(list), end - start(list)});
    }
  }
};

/// Whether a path's suffix is that of a FAISS file: ".index" or ".faiss".
bool is_faiss_path(const std::string& path);

/// Reads all but vectors and ids, and checks that the file is as long as they take.
/// @throws Error{data} naming what the file is, where it is no such file; where it is damaged, truncated or
/// longer; where it is empty or compares by another metric
/// @par Cost  16 bytes a list
FaissLayout read_faiss_layout(const File& file);
/// The same for a path. @throws also Error{input_missing|permission}
FaissLayout read_faiss_layout(const std::string& path);

/// Centroids and list starts of an IndexIVFFlat; there is no codec.
/// @throws Error{data} where a centroid is not finite, or where FAISS compares centroids by another metric
/// than rows and not all are equally long: then the two orders differ
/// @pre layout.has_lists
IndexLists read_faiss_lists(const std::string& path, const FaissLayout& layout);

/// Writes all but vectors and ids of a flat index; with ids it becomes an IndexIDMap2.
/// @pre metric is l2 or ip @throws Error{usage} where d is beyond the header's 32 bits
FaissLayout start_faiss_flat(const File& file, Metric metric, std::int64_t rows, std::int64_t d,
                             bool with_ids);
/// The same of an IndexIVFFlat. @pre lists.centroids has as many rows as there are lists
FaissLayout start_faiss_lists(const File& file, Metric metric, const IndexLists& lists);

}  // namespace mpishards::io

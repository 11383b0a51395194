#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/types.hpp"
#include "io/file.hpp"
#include "io/index_directory.hpp"
#include "io/range.hpp"

namespace mpishards::io {

/// Size of an index directory, and how it is cut: pure arithmetic, the same for any number of ranks.
struct IndexShape {
  std::int64_t rows = 0;
  std::int64_t d = 0;
  DType dtype = DType::f32;
  std::int64_t nlist = 1;
  bool has_centroids = true;
  IndexCodes codes = {};
  std::int64_t n_shards = 1;  // at most rows

  /// Places (rows in list order) of one shard; their numbers differ by at most one.
  Range shard(std::int64_t s) const;
  bool has_codes() const { return !codes.codec.empty(); }
  std::int64_t row_bytes() const { return d * static_cast<std::int64_t>(size_bytes(dtype)); }
};

/// Where everything lies in an index directory that is being made.
struct IndexLayout {
  std::string directory;
  IndexShape shape;
  std::int64_t centroids_offset = 0;  // in lists.h5
  std::int64_t starts_offset = 0;
  std::int64_t codec_offset = 0;              // 0 where there are no codes
  std::vector<std::int64_t> vectors_offsets;  // in each shard file
  std::vector<std::int64_t> ids_offsets;
  std::vector<std::int64_t> codes_offsets;  // empty where there are no codes

  /// One line of text and back, for broadcasting.
  std::string serialize() const;
  static IndexLayout deserialize(const std::string& text);
};

/// Makes lists.h5, all shard files and the file of labels, unfilled, with their space reserved. Only one
/// process (rank 0) calls this. @pre the directory exists @throws Error{cannot_create|permission}
IndexLayout create_index_files(const std::string& directory, const IndexShape& shape);
/// The layout of files that are there already. @throws Error{data} if they have not this shape
IndexLayout adopt_index_files(const std::string& directory, const IndexShape& shape);
/// Removes what is no part of the finished index: labels, and what FAISS was trained to.
void remove_build_files(const std::string& directory);

/// Where an index of FAISS lies that is trained and has no rows yet.
std::string trained_path(const std::string& directory);

/// Writes and reads parts of an unfinished index. Any number of processes may do so on disjoint parts. A
/// place is a row's number in list order over all shards.
class IndexFiles {
 public:
  explicit IndexFiles(IndexLayout layout)
      : layout_(std::move(layout)), files_(layout_.vectors_offsets.size()) {}

  const IndexShape& shape() const { return layout_.shape; }
  const std::string& directory() const { return layout_.directory; }

  void write_centroids(MatrixView<const float> centroids);
  Matrix read_centroids();
  void write_starts(std::span<const std::int64_t> starts);

  /// Parameters of the codec. @pre there are codes
  void write_codec(MatrixView<const float> parameters);
  Matrix read_codec();

  /// List numbers of rows of the base.
  void write_labels(std::int64_t first_row, std::span<const std::int32_t> labels);
  void read_labels(std::int64_t first_row, std::span<std::int32_t> out);

  /// Rows that follow each other in list order, across shards. @pre ids.size() == rows.rows
  void write_rows(std::int64_t first_place, TypedView rows, std::span<const GlobalId> ids);
  /// @param[out] rows  ids.size() rows
  void read_rows(std::int64_t first_place, std::byte* rows, std::span<GlobalId> ids);

  /// Codes of the same rows. @param codes  shape().codes.code_bytes a place @pre there are codes
  void write_codes(std::int64_t first_place, std::span<const std::byte> codes);
  void read_codes(std::int64_t first_place, std::span<std::byte> codes);

  /// What this process wrote since the last time, to the device.
  void sync();

 private:
  /// Part of a shard that a range of places covers.
  struct Piece {
    std::size_t shard = 0;
    std::int64_t first_in_shard = 0;
    std::int64_t first = 0;  // counted from the begin of the range
    std::int64_t rows = 0;
  };
  std::vector<Piece> pieces_of(Range places) const;
  const File& shard_file(std::size_t shard);
  const File& lists();
  const File& labels();
  void check_label_range(std::int64_t first_row, std::size_t count) const;

  IndexLayout layout_;
  std::vector<File> files_;  // shards that are open
  std::vector<std::size_t> open_shards_;
  File lists_;
  File labels_;
};

}  // namespace mpishards::io

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/types.hpp"
#include "io/input_spec.hpp"
#include "io/results_writer.hpp"

/// An index as it lies on disk: a directory with manifest.json, lists.h5 and shard files, see
/// docs/index-format.md. What is read here was checked against the checksums that it carries.
namespace mpishards::io {

/// One file of vectors: rows of whole and cut lists, in list order.
struct IndexShard {
  std::string file;            // in the directory
  std::int64_t first_row = 0;  // in list order over all shards
  std::int64_t rows = 0;
  std::int64_t size_bytes = 0;  // of the file
  // Sums over the rows of a hash of the row, seeded with its number in list order over all shards.
  std::uint64_t vectors_hash = 0;
  std::uint64_t ids_hash = 0;  // the same over the ids as an n x 1 matrix
};

struct IndexManifest {
  std::string type;  // "ivf"; "flat": one list without centroids, rows in the base's order
  Metric metric = Metric::l2;
  std::int64_t rows = 0;
  std::int64_t d = 0;
  DType dtype = DType::f32;
  std::int64_t nlist = 1;
  std::vector<IndexShard> shards;  // in list order, without gaps
  std::uint64_t lists_hash = 0;    // XXH3-64 of lists.h5
  Attributes facts;                // where the index comes from; nothing depends on them
};

/// Whether the path is a folder with a manifest.json in it.
bool is_index_directory(const std::string& path);

/// Reads the manifest and checks everything that can be checked without reading vectors: its own checksum and
/// version, its numbers against each other, and that lists.h5 and every shard file are there with their
/// sizes.
/// @throws Error{data|input_missing|permission} naming the file
IndexManifest read_index(const std::string& directory);

/// Writes manifest.json, with its checksum, by rename. @throws Error{cannot_create|io}
void write_index_manifest(const std::string& directory, const IndexManifest& manifest);

/// Where the lists begin, and what represents them.
struct IndexLists {
  Matrix centroids;                  // nlist x d f32; 0 x d where the type has none
  std::vector<std::int64_t> starts;  // nlist + 1: rows in list order over all shards
};

/// @throws Error{data} naming the file where it is damaged
IndexLists read_lists(const std::string& directory, const IndexManifest& manifest);

/// The shard files as a base: DIR/shard-00000.h5:train, ... Row numbers of that base are places in list
/// order; its ids are those of the rows.
std::vector<InputSpec> index_inputs(const std::string& directory, const IndexManifest& manifest);

/// "DIR/lists.h5" and "shard-00003.h5".
std::string lists_path(const std::string& directory);
std::string shard_file_name(std::int64_t shard);

/// XXH3-64 of a whole file. @par Cost  reads it once, in blocks
std::uint64_t hash_file(const std::string& path);

/// Names of the data sets in lists.h5 and in a shard file.
inline constexpr const char* kCentroidsName = "centroids";
inline constexpr const char* kListStartsName = "list_starts";
inline constexpr const char* kShardVectorsName = "train";
inline constexpr const char* kShardIdsName = "ids";

}  // namespace mpishards::io

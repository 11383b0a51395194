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
  std::uint64_t ids_hash = 0;    // the same over the ids as an n x 1 matrix
  std::uint64_t codes_hash = 0;  // the same over the codes; 0 where there are none
  std::int64_t faiss_bytes = 0;  // of the file that FAISS' index of these rows lies in; 0: there is none
  std::uint64_t faiss_hash = 0;  // XXH3-64 of that file
};

/// Short codes of the rows beside them, which are searched in their stead.
struct IndexCodes {
  std::string codec;                // as in the spec of the index: "pq16"; empty: there are none
  std::int64_t code_bytes = 0;      // of a row
  std::int64_t parameter_rows = 0;  // of the codec: rows of d float32

  friend bool operator==(const IndexCodes&, const IndexCodes&) = default;
};

/// Indexes of FAISS, one of each shard's rows, which are searched in their stead.
struct IndexFaiss {
  std::string factory;           // as FAISS' index_factory reads it: "HNSW32"; empty: there are none
  std::string parameter;         // option that says how much of it a query looks at; empty: it has none
  std::int64_t most = 0;         // value of it from which on more changes nothing; 0: without a parameter
  std::int64_t table_bytes = 0;  // that each shard's index holds beside what is in its file

  friend bool operator==(const IndexFaiss&, const IndexFaiss&) = default;
};

struct IndexManifest {
  std::string type;  // "ivf"; "flat", "faiss": one list without centroids, rows in the base's order
  Metric metric = Metric::l2;
  std::int64_t rows = 0;
  std::int64_t d = 0;
  DType dtype = DType::f32;
  std::int64_t nlist = 1;
  IndexCodes codes = {};
  IndexFaiss faiss = {};
  std::vector<IndexShard> shards;  // in list order, without gaps
  std::uint64_t lists_hash = 0;    // XXH3-64 of lists.h5
  Attributes facts;                // where the index comes from; nothing depends on them
};

/// Whether the path is a folder with a manifest.json in it.
bool is_index_directory(const std::string& path);

/// Reads the manifest and checks everything that can be checked without reading vectors: its own checksum and
/// version, its numbers against each other, and that lists.h5 and every shard's files are there with their
/// sizes.
/// @throws Error{data|input_missing|permission} naming the file
IndexManifest read_index(const std::string& directory);

/// Writes manifest.json, with its checksum, by rename. @throws Error{cannot_create|io}
void write_index_manifest(const std::string& directory, const IndexManifest& manifest);

/// Where the lists begin, and what represents them.
struct IndexLists {
  Matrix centroids;                  // nlist x d f32; 0 x d where the type has none
  Matrix codec;                      // parameter_rows x d f32; 0 x d where there are no codes
  std::vector<std::int64_t> starts;  // nlist + 1: rows in list order over all shards
};

/// @throws Error{data} naming the file where it is damaged
IndexLists read_lists(const std::string& directory, const IndexManifest& manifest);

/// The shard files as a base: DIR/shard-00000.h5:train, ... Row numbers of that base are places in list
/// order; its ids are those of the rows.
std::vector<InputSpec> index_inputs(const std::string& directory, const IndexManifest& manifest);
/// The codes in the same way. @pre there are codes
std::vector<InputSpec> index_code_inputs(const std::string& directory, const IndexManifest& manifest);

/// "DIR/lists.h5", "shard-00003.h5" and "DIR/shard-00003.faiss".
std::string lists_path(const std::string& directory);
std::string shard_file_name(std::int64_t shard);
std::string faiss_path(const std::string& directory, std::int64_t shard);

/// XXH3-64 of a whole file. @par Cost  reads it once, in blocks
std::uint64_t hash_file(const std::string& path);

/// Names of the data sets in lists.h5 and in a shard file.
inline constexpr const char* kCentroidsName = "centroids";
inline constexpr const char* kListStartsName = "list_starts";
inline constexpr const char* kShardVectorsName = "train";
inline constexpr const char* kShardIdsName = "ids";
inline constexpr const char* kShardCodesName = "codes";
inline constexpr const char* kCodecName = "codec";

}  // namespace mpishards::io

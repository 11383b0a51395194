#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/timer.hpp"
#include "core/topk.hpp"
#include "io/input_spec.hpp"
#include "rank/search_engine.hpp"
#include "rank/shard_loader.hpp"
#include "serve/id_set.hpp"

namespace mpishards::serve {

/// What the command line says about a collection.
struct CollectionSpec {
  std::string name;
  std::vector<io::InputSpec> base;  // one file after the other
  Metric metric = Metric::l2;
  bool drop_nonfinite = false;
};

/// Throws unless the name is one that clients can use: a letter or underscore, then letters, digits and
/// underscores, at most 255. @throws Error{usage}
void check_collection_name(const std::string& name);

enum class LoadState : std::uint8_t { loading, loaded, released };

/// One rank's part of a collection, for people.
struct ShardInfo {
  int rank = 0;
  std::string host;
  std::int64_t rows = 0;
  std::int64_t bytes = 0;  // of vectors and ids
  double load_seconds = 0;
};

/// What is known about a collection; a value that never changes: a reload makes another one.
struct CollectionInfo {
  int slot = 0;         // its place among the server's collections
  std::int64_t id = 0;  // that clients see; > 0 and the same for the server's life
  std::string name;
  std::string source;  // its files, for people; never sent to clients
  Metric metric = Metric::l2;
  DType dtype = DType::f32;  // of the vectors in memory
  std::int64_t dim = 0;
  std::int64_t rows = 0;          // that can be found
  std::int64_t dropped_rows = 0;  // non-finite ones
  bool has_ids = false;           // ids are the file's own; else row numbers
  bool is_writable = false;       // collections served from files are not
  LoadState state = LoadState::loading;
  std::int64_t generation = 0;  // counts loads
  std::int64_t created_ms = 0;  // Unix time
  std::int64_t updated_ms = 0;
  std::vector<ShardInfo> shards;  // by rank; empty while nothing is loaded
};
using CollectionPtr = std::shared_ptr<const CollectionInfo>;

/// Rows of a collection by their ids; `found[i]` says whether row i of `vectors` is there.
struct FetchedRows {
  Matrix vectors;  // ids x dim, as stored (float64 as float32)
  std::vector<char> found;
};

/// This rank's shard of a collection, in memory and searchable. Methods that communicate say so; for all
/// others one thread at a time.
class CollectionPart {
 public:
  /// Opens the files and reads this rank's rows. Does not communicate, so it may run beside searches of other
  /// parts. @throws Error{input_missing|data|io|...}
  /// @param config  of the engine that build() will be given
  CollectionPart(const CollectionSpec& spec, const rank::SearchEngineConfig& config,
                 const comm::Communicator& comm);
  CollectionPart(const CollectionPart&) = delete;
  CollectionPart& operator=(const CollectionPart&) = delete;

  /// Makes the rows searchable. Does not communicate. @param config  its metric is replaced by the
  /// collection's
  /// @par Cost  reads all rows once
  void build(const rank::SearchEngineConfig& config, const comm::Communicator& comm);

  /// Seconds that the last search spent, on this rank.
  struct Timing {
    double scatter_seconds = 0;
    double search_seconds = 0;
    double merge_seconds = 0;
  };

  /// Collective over the comm of build().
  /// @param queries  on root: nq x dim float32; elsewhere ignored
  /// @return this rank's slice of the answer (merge::slice_of)
  /// @throws comm::AgreedError
  TopK search(Matrix queries, std::int64_t k, Timing& timing, std::int64_t& batch_nq);

  /// Ids of this rank's rows in the set, ascending, each once; at most `limit`.
  std::vector<GlobalId> select(const IdSet& set, std::int64_t limit) const;
  /// Rows of this rank whose ids are in the set.
  std::int64_t count(const IdSet& set) const;
  /// The row with this id, or -1 where another rank has it.
  std::int64_t find(GlobalId id) const;

  std::int64_t rows() const { return shard_.vectors.rows(); }
  std::int64_t dim() const { return dim_; }
  DType dtype() const { return shard_.vectors.dtype(); }
  const rank::Shard& shard() const { return shard_; }
  bool has_ids() const { return has_ids_; }
  /// All rows of the files, also those of other ranks and dropped ones.
  std::int64_t file_rows() const { return file_rows_; }
  std::int64_t bytes() const;

 private:
  std::pair<std::size_t, std::size_t> positions_of(IdSet::Interval interval) const;

  std::int64_t dim_ = 0;
  std::int64_t file_rows_ = 0;
  bool has_ids_ = false;
  Metric metric_;
  rank::Shard shard_;
  /// Ids in ascending order with their rows, where they are not simply the row numbers.
  std::vector<std::pair<GlobalId, std::int64_t>> by_id_;
  PhaseClock clock_;
  std::unique_ptr<rank::SearchEngine> engine_;
};

}  // namespace mpishards::serve

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "comm/communicator.hpp"
#include "core/metric.hpp"
#include "core/timer.hpp"
#include "core/topk.hpp"
#include "kernels/index.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/distribute.hpp"
#include "rank/faiss_shards.hpp"
#include "rank/inverted_lists.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {

/// How the ranks of an engine search and merge.
struct SearchEngineConfig {
  Metric metric = Metric::l2;
  std::string index = "flat";
  std::string engine = "cpu";
  std::string merge = "auto";
  std::string router = "all";
  kernels::EngineOptions options;
  RouterContext routing;
  // Must outlive the engine; null: the index has none. With a codec, the rows are codes, and answers are
  // candidates with the distances of what the codes stand for.
  const InvertedLists* lists = nullptr;
  bool has_faiss = false;  // the same of indexes that FAISS built: they come with load_faiss
};

/// The ranks' common search: every rank holds one shard, root hands in a batch, every rank gets its slice of
/// the merged answer. What the batch job and the server both drive.
class SearchEngine {
 public:
  /// Not collective. @param comm and clock must outlive the engine @throws Error{usage|unavailable}
  SearchEngine(const SearchEngineConfig& config, const comm::Communicator& comm, PhaseClock& clock);

  /// Bytes that a rank's engine will hold beside so many rows without lists, in time also those that it
  /// packs.
  static std::int64_t bytes_beside(const SearchEngineConfig& config, std::int64_t rows, std::int64_t d,
                                   DType dtype);

  /// Takes this rank's rows by reference, see kernels::Index::build. Not collective.
  /// @param lists  that the rows belong to, where the index has lists; must outlive the rows
  void load(TypedView base, kernels::RowIds ids, kernels::RowLists lists = {});

  /// Reads the indexes that FAISS built of some shards. Not collective. @return sum of their checksums
  /// @throws Error{data|io} @pre has_faiss
  std::uint64_t load_faiss(const std::string& directory, const io::IndexManifest& manifest,
                           io::Range shards) {
    return faiss_->load(directory, manifest, shards);
  }

  /// How many lists a query looks into from now on; of indexes of FAISS the parameter that they have. Not
  /// collective. @pre the engine has either, 1 <= nprobe
  void set_nprobe(std::int64_t nprobe);
  std::int64_t nprobe() const { return nprobe_; }
  /// From now on every query goes to every rank: the shards that are loaded are not those that the router was
  /// made for. Not collective.
  void route_everywhere() { router_ = make_router("all", config_.routing); }
  /// The nearest lists of some queries. Not collective. @pre the engine has lists, nprobe is at most their
  /// number
  ProbeTable probe(MatrixView<const float> queries, std::int64_t nprobe) {
    return prober_->probe(queries, nprobe);
  }

  /// Root's batch to the ranks that must see it. Collective over comm.
  /// @param batch  on root: batch_nq x d float32; elsewhere ignored
  RoutedBatch scatter(Matrix batch, std::int64_t d);

  /// Searches the loaded shards and merges. Collective over comm.
  /// @param bound  empty, or batch_nq distances that are already reached elsewhere (see
  /// kernels::Index::search)
  /// @return this rank's slice of the batch (merge::slice_of), exact over all loaded shards
  TopK search(const RoutedBatch& batch, std::span<const float> bound, std::int64_t k);

  /// The same for queries that look into every list of the loaded shards. Collective over comm.
  /// @param queries  float32, the same on every rank
  TopK search_all_lists(MatrixView<const float> queries, std::int64_t k);

  const kernels::Index& index() const { return *index_; }

 private:
  /// Of queries that look at all loaded rows.
  std::int64_t piece_queries() const;
  void search_in_pieces(MatrixView<const float> queries, const ProbeTable& probes,
                        std::span<const float> bound, TopK& out);
  TopK search_shard(const RoutedBatch& batch, std::span<const float> bound, std::int64_t k);

  ProbeTable probe_batch(MatrixView<const float> slice, std::int64_t batch_nq);
  bool has_codes() const { return config_.lists != nullptr && config_.lists->codec; }
  std::unique_ptr<kernels::Index> make_index_of(const SearchEngineConfig& config);

  SearchEngineConfig config_;
  const comm::Communicator& comm_;
  PhaseClock& clock_;
  std::unique_ptr<Router> router_;
  FaissShards* faiss_ = nullptr;  // the index, where FAISS built it
  std::unique_ptr<kernels::Index> index_;
  std::unique_ptr<merge::MergeStrategy> merge_;
  std::unique_ptr<ListProber> prober_;  // where there are lists
  std::int64_t nprobe_ = 1;
  kernels::RowLists loaded_lists_;
  std::int64_t loaded_values_ = 0;  // rows times dimensions
};

}  // namespace mpishards::rank

#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/types.hpp"
#include "kernels/codec.hpp"
#include "rank/shard_map.hpp"

namespace mpishards::rank {

/// The indexes of FAISS that are searched instead of rows: one a shard, and a rank has whole ones.
struct FaissShape {
  std::string factory;
  std::string parameter;         // option that says how much of one a query looks at; empty: it has none
  std::int64_t shards = 1;       // of all ranks
  std::int64_t shard_rows = 0;   // of the largest
  std::int64_t shard_bytes = 0;  // of memory that it takes
};

/// Size of a whole job, and what one rank may use.
struct JobShape {
  std::int64_t rows = 0;  // of the base
  std::int64_t d = 0;
  DType dtype = DType::f32;  // of the base
  std::int64_t nq = 0;
  std::int64_t k = 0;
  std::optional<float> eps = std::nullopt;  // all rows within it are looked for instead of k
  bool has_clusters = false;                // and the components of the pairs
  int n_ranks = 1;
  std::vector<double> weights = {};  // of the ranks' shares of the base; empty: all are equal
  int threads = 1;                   // of one rank, the most that one has
  int own_threads = 1;               // of this rank: ranks may differ in this alone
  std::string isa = "auto";       // CPU kernel family: the best one that a rank has, so that all plan alike
  std::int64_t memory_bytes = 0;  // that one rank may hold
  std::int64_t batch = 0;         // queries a batch; 0: chosen
  bool has_ids = false;           // the file carries 8 bytes of id a row
  std::int64_t lists = 0;         // that the rows lie in; 0: every row is looked at
  std::int64_t nprobe = 0;        // of them a query looks into; 0: as many as a wanted recall needs
  std::optional<kernels::CodecShape> codec = std::nullopt;  // codes are searched instead of the rows
  std::optional<FaissShape> faiss = std::nullopt;           // the same of indexes of FAISS
  std::int64_t rerank = 1;                                  // candidates that either names for each neighbor
  bool exclude_self = false;  // the queries are the base's rows, none is its own neighbor
  bool symmetrized = false;   // that graph is made undirected

  /// Whether what is searched names candidates, which the rows on disk rank.
  bool names_candidates() const { return codec || faiss; }
  /// Neighbors that are looked for: a row's own self may be among them, and candidates are more than are
  /// wanted.
  std::int64_t searched_k() const { return names_candidates() ? candidates() : exclude_self ? k + 1 : k; }
  /// Candidates of a query: not more than there are rows, unless k is.
  std::int64_t candidates() const { return rerank > rows / k ? std::max(k, rows) : k * rerank; }
  /// Which of some rows of the base belong to which rank.
  ShardMap shards(io::Range of) const { return {of, n_ranks, weights}; }
  /// Of so many rows, how many one rank has at most. @par Cost  n_ranks where there are weights
  std::int64_t most_rows_of_rank(std::int64_t of) const;
  /// Lists a query looks into, as planned: where a recall decides, it is not known before it is measured.
  std::int64_t planned_nprobe() const;
};

/// Speeds that turn a plan into time; zero where unknown.
struct JobRoofs {
  double flops_per_second = 0;       // one rank's sustained matrix-product rate
  double read_bytes_per_second = 0;  // one rank's share of the file system
};

struct MemoryItem {
  std::string name;
  std::int64_t bytes = 0;
};

/// How a job is cut: passes over query ranges, shard groups over the base, batches of queries; and what that
/// costs.
///
/// Group g holds base rows [g * rows_per_group, ...), spread over all ranks in contiguous shards; every pass
/// streams all groups once. One group: the base is resident and is read once.
struct JobPlan {
  std::int64_t groups = 1;
  std::int64_t rows_per_group = 0;
  std::int64_t rows_per_rank = 0;  // largest shard of a group
  std::int64_t passes = 1;
  std::int64_t queries_per_pass = 0;
  std::int64_t batch = 0;
  std::int64_t max_hits = 0;  // rows within eps that one rank may hold at once; more: fewer queries at once
  std::vector<MemoryItem> memory;  // of one rank, by purpose
  std::int64_t memory_bytes = 0;   // their sum
  std::int64_t cluster_bytes = 0;  // of one rank, when all else is given back
  std::int64_t memory_limit_bytes = 0;
  std::int64_t read_bytes = 0;     // all ranks, all passes
  std::int64_t result_bytes = 0;   // of the finished file; with eps without the hits, which nobody knows yet;
                                   // of an undirected graph at most
  std::int64_t scratch_bytes = 0;  // on disk while the job runs: the result and, if streamed, two checkpoints
  double flops = 0;                // all ranks
  double search_seconds = 0;       // expected; 0 where the roof is unknown
  double read_seconds = 0;
};

/// Pure arithmetic, the same on every rank.
/// @throws Error{config} with the numbers if not even one row a rank fits into memory_bytes
JobPlan plan_job(const JobShape& shape, const JobRoofs& roofs = {});

/// "k = 10" or "eps = 0.5".
std::string wanted_text(const JobShape& shape);

/// Lines for people: "base 1000000 x 128 f32 (488.3 MiB) in 1 group, ...".
std::string to_string(const JobPlan& plan, const JobShape& shape);

/// "488.3 MiB"; "8GiB" and back. @throws Error{usage} for text that is no size
std::string format_bytes(std::int64_t bytes);
std::int64_t parse_bytes(const std::string& text);

}  // namespace mpishards::rank

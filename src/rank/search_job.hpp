#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/metric.hpp"
#include "core/timer.hpp"
#include "io/input_spec.hpp"
#include "io/journal.hpp"
#include "io/results_writer.hpp"
#include "kernels/index.hpp"
#include "rank/balance.hpp"
#include "rank/clusters.hpp"
#include "rank/job_plan.hpp"
#include "rank/progress_meter.hpp"
#include "rank/recall_estimate.hpp"
#include "rank/symmetrize.hpp"

namespace mpishards::rank {

/// Instead of k neighbors: all rows within a distance.
struct RangeSearch {
  float eps = 0;  // l2: largest squared distance; ip, cosine: smallest similarity
  kernels::RangePairs pairs = kernels::RangePairs::all;
  bool has_clusters = false;  // of a join: components of the pairs, and which rows to keep, see find_clusters
};

/// Instead of a search: an index of the base is built, config.index is its spec.
struct IndexBuild {
  std::int64_t training_rows = 0;  // 0: kTrainingRowsPerList a list
  std::int64_t iterations = 10;    // of k-means
  std::int64_t shards = 0;         // files; 0: so that none has more than kMaxShardBytes
  // The base is a FAISS file: no id may be there twice, and its lists, if it has some, become the index's.
  bool imports = false;
};

/// Everything that decides a batch search; validated by the command line before it gets here.
struct SearchJobConfig {
  std::vector<io::InputSpec> base;
  std::vector<io::InputSpec> queries;
  Metric metric = Metric::l2;
  std::int64_t k = 10;
  std::optional<RangeSearch> range;  // run_range_job; k means nothing then
  std::optional<IndexBuild> build;   // run_build_job; queries mean nothing then
  std::string output;
  io::ResultFormat format = io::ResultFormat::h5;

  std::string index = "flat";   // kernels::index_registry
  std::string index_directory;  // that `base` is the files of; empty: there is none
  // Lists that a query looks into, or the parameter of FAISS' indexes; 0: as many as `recall` needs.
  std::int64_t nprobe = 0;
  double recall = 0.95;             // wanted, where nprobe is 0
  std::int64_t rerank = 10;         // candidates that codes or FAISS name for each neighbor wanted
  std::int64_t recall_queries = 0;  // whose exact answers tell the recall; 0: it is not measured
  std::string engine = "auto";      // auto, cpu, cuda
  std::string isa = "auto";
  Balance balance;                // of the rows over the ranks
  std::string merge = "auto";     // auto or a registry name
  std::string router = "auto";    // auto or a registry name
  std::int64_t batch = 0;         // queries a batch; 0: planned
  std::int64_t memory_bytes = 0;  // a rank; 0: what the host has left, divided by its ranks
  int threads = 0;                // a rank; 0: the cores it is bound to, divided by the ranks that share them
  std::optional<io::Range> queries_range;
  int part = 0;  // this job searches the part-th of `parts` contiguous pieces of the base
  int parts = 1;
  bool drop_nonfinite = false;
  // Queries and base are the same rows, whole: no row is its own neighbor, and ids are row numbers.
  bool exclude_self = false;
  Symmetry symmetry = Symmetry::directed;  // of that graph
  bool overwrite = false;
  bool resume = true;
  std::int64_t self_check_queries = 16;  // re-computed in fp64 at the end
  double roof_probe_seconds = 0.1;       // how long a rank measures its own speed at start-up; 0: not

  double checkpoint_seconds = 30;  // between saved states of a streamed base; 0: after every shard group
  std::string log_folder;          // of one JSON-lines file a rank; empty: none

  std::vector<std::string> settings_files;  // job file: never taken for an output
  std::string command_line;                 // for the result's attributes
  std::string working_folder;               // that relative input paths are relative to, absolute
  std::string configuration;                // effective settings as TOML, for the result's attributes
};

/// One rank's part in a finished (or stopped) run.
struct RankReport {
  int rank = 0;
  std::string host;
  std::string engine;  // Index::description
  int threads = 0;
  std::int64_t rows = 0;  // base rows searched, over all groups
  std::int64_t bytes_read = 0;
  double read_seconds = 0;  // in reads, also those that ran beside a search
  std::int64_t peak_rss_bytes = 0;
  std::array<double, kPhases> phase_seconds{};  // sums to the wall time
  std::vector<PhaseSpan> spans;                 // for the chart
  double roof_flops_per_second = 0;             // measured at start-up
  kernels::SearchCounters counters;
};

/// fp64 re-computation of some queries, by code that the search does not use.
struct SelfCheck {
  std::int64_t queries = 0;
  std::int64_t id_mismatches = 0;  // places where the id differs
  std::int64_t distance_mismatches =
      0;  // places where the float32 distance is off by more than one unit in the last place
  double max_relative_error = 0;
  std::int64_t first_bad_query = -1;
};

/// What a run did; complete on rank 0, the rest on every rank.
struct SearchSummary {
  bool stopped = false;  // by a signal, with a checkpoint: run the same line again
  JobShape shape;
  JobPlan plan;
  std::string merge;  // strategy used (of the last batch, where "auto" decides)
  double wall_seconds = 0;
  double pure_read_seconds = 0;   // bytes read at the measured read rate: the floor no run can go below
  std::int64_t queries_done = 0;  // by this run, without those of earlier ones
  std::int64_t dropped_rows = 0;  // non-finite
  int resumes = 0;
  kernels::SearchCounters counters;  // sum over ranks
  std::int64_t nprobe = 0;           // lists that a query looked into; 0: all rows were looked at
  std::int64_t faiss_parameter = 0;  // of FAISS' indexes; 0: they have none, or what FAISS takes unasked
  RecallEstimate recall;             // of a search that looks into some lists, or asks FAISS
  SelfCheck self_check;
  std::optional<ClusterSummary> clusters;  // where they were asked for and found by this run
  std::vector<RankReport> ranks;
  std::vector<std::string> result_paths;
  std::vector<std::string> warnings;  // launcher, binding, narrowing, ...
};

/// What will run.
struct PreparedJob {
  JobShape shape;
  JobPlan plan;
  std::vector<std::string> warnings;
};

/// Opens and checks the inputs and plans the job, without reading vectors. Collective over comm.
/// @throws Error, the same on every rank
PreparedJob prepare_search_job(const SearchJobConfig& config, const comm::Communicator& comm);

/// What a caller wants to hear of a run; each may be empty. All are called on rank 0 alone.
struct JobObserver {
  std::function<void(const PreparedJob&)> prepared;  // once, before the work
  // Once, as soon as the job owns its output; with what an earlier run left in it, else an empty text.
  std::function<void(const Progress&, const std::string& resumed)> began;
  std::function<void(const Progress&)> progress;  // after every batch
};

/// Runs a search from files to a published result. Collective over comm.
///
/// Reacts to request_stop(): finishes the batch, leaves OUT.partial and OUT.journal, returns with stopped =
/// true.
/// @throws Error, the same kind on every rank; nothing existing was touched unless config.overwrite
SearchSummary run_search_job(const SearchJobConfig& config, const comm::Communicator& comm,
                             const JobObserver& observer);

/// Asks the running job to stop at the next safe point; async-signal-safe.
/// @param level  1: after this batch; 2: as soon as possible, this batch is searched again by the next run
void request_stop(int level) noexcept;

}  // namespace mpishards::rank

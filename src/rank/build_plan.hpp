#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/metric.hpp"
#include "io/index_files.hpp"
#include "rank/index_spec.hpp"
#include "rank/job_plan.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// Rows a list that the centroids are trained on unasked, and those below which FAISS calls a sample poor.
inline constexpr std::int64_t kTrainingRowsPerList = 256;
inline constexpr std::int64_t kPoorTrainingRowsPerList = 39;
/// Bytes of vectors and ids in one shard file unasked.
inline constexpr std::int64_t kMaxShardBytes = std::int64_t{4} << 30;
/// Rows of a shard that FAISS builds, and shards where that decides, unasked: a shard keeps one thread of one
/// rank at work, but every query goes into each.
inline constexpr std::int64_t kFaissShardRows = 250000;
inline constexpr std::int64_t kMostFaissShards = 16;

/// How an index is built: what is trained, how the rows are cut into blocks, and what that costs.
struct BuildPlan {
  IndexSpec spec;
  Metric metric = Metric::l2;
  io::IndexShape files;
  bool takes_lists = false;             // from the base: nothing is trained or assigned
  std::int64_t training_rows = 0;       // 0: there is nothing to train
  std::int64_t poor_training_rows = 0;  // below which FAISS calls its sample poor; 0: whoever trains
  std::int64_t iterations = 0;
  std::int64_t assign_block = 0;   // rows that a rank assigns at once
  std::int64_t place_block = 0;    // rows that a rank brings to their lists at once
  std::int64_t codec_rows = 0;     // that the codec is trained on; 0: there are no codes
  std::int64_t encode_block = 0;   // rows that a rank codes at once
  std::int64_t builders = 0;       // shards that a rank lets FAISS build at once, a thread each; 0: none
  std::int64_t faiss_bytes = 0;    // of memory that one of these takes, its rows included, about
  std::vector<MemoryItem> memory;  // of root, by purpose, in the step that takes most
  std::int64_t memory_bytes = 0;   // their sum
  std::int64_t memory_limit_bytes = 0;
  std::int64_t index_bytes = 0;    // on disk
  std::int64_t scratch_bytes = 0;  // on disk while the job runs, beside the index
  double training_flops = 0;       // all ranks
  double assignment_flops = 0;
  double codec_flops = 0;
  double encoding_flops = 0;
  double indexing_flops = 0;  // of FAISS, as guessed
};

/// Pure arithmetic, the same on every rank.
/// @throws Error{config} with the numbers where the sample or one row does not fit into memory_bytes, or
/// where there are fewer rows than lists or codewords; Error{usage} where there are more shards than rows, or
/// d can't be cut into the codec's parts, or FAISS knows no such index
BuildPlan plan_build(const SearchJobConfig& config, const JobShape& shape);

/// The indexes of FAISS that a build would make of a base, as far as they are known before, for l2.
/// @param base  rows, d and dtype @throws Error{usage} where FAISS knows no such index
FaissShape planned_faiss(const std::string& factory, const JobShape& base);

/// What is worth a word about a plan that can run.
std::vector<std::string> build_warnings(const BuildPlan& plan);

/// Lines for people.
std::string to_string(const BuildPlan& plan, const JobShape& shape);

}  // namespace mpishards::rank

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.hpp"
#include "rank/build_plan.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// How the rows are spread over the lists.
struct ListStatistics {
  std::int64_t smallest = 0;
  std::int64_t median = 0;
  std::int64_t largest = 0;
  /// Sum of the squared sizes over that of lists of equal size: what a probe costs more than it would then.
  double imbalance = 1;
};

/// @param starts  one more than there are lists
ListStatistics list_statistics(const std::vector<std::int64_t>& starts);

/// Steps of a build, in order.
enum class BuildStep : std::uint8_t { training, assignment, placing, encoding, indexing, verifying };
inline constexpr std::size_t kBuildSteps = 6;
std::string_view to_string(BuildStep step);

/// What a run did; complete on rank 0.
struct BuildSummary {
  bool stopped = false;  // by a signal, with a journal: run the same line again
  JobShape shape;
  BuildPlan plan;
  std::vector<std::string> warnings;
  std::array<double, kBuildSteps> step_seconds{};  // of this run
  double wall_seconds = 0;
  ListStatistics lists;
  std::int64_t index_bytes = 0;  // of all files, as published
  int resumes = 0;
  std::vector<RankReport> ranks;
};

/// What will run.
struct PreparedBuild {
  JobShape shape;
  BuildPlan plan;
  std::vector<std::string> warnings;
};

/// Opens and checks the inputs and plans the build, without reading vectors. Collective over comm.
/// @pre config.build @throws Error, the same on every rank
PreparedBuild prepare_build_job(const SearchJobConfig& config, const comm::Communicator& comm);

/// What a caller wants to hear of a run; each may be empty. All are called on rank 0 alone.
struct BuildObserver {
  std::function<void(const PreparedBuild&)> prepared;
  std::function<void(const Progress&, const std::string& resumed)> began;
  std::function<void(const Progress&)> progress;  // after every iteration and block
};

/// Builds an index, from files to a published directory. Collective over comm.
///
/// Trains centroids on a sample, assigns every row to its nearest one, brings the rows to their lists on
/// disk, writes their codes beside them where the spec has a codec, and reads all of it again before the
/// index gets its name. Where config.build says so, centroids and lists are those of a FAISS file instead.
/// What FAISS builds is trained on a sample by rank 0, and built of each shard's rows by one thread of one
/// rank. The files are the same bytes for any number of ranks, threads and bytes of memory, and after any
/// stop; the manifest's facts alone tell runs apart.
///
/// Reacts to request_stop(): finishes the block, leaves DIR.partial and DIR.journal, returns with stopped =
/// true.
/// @pre config.build
/// @throws Error, the same kind on every rank; nothing existing was touched unless config.overwrite
BuildSummary run_build_job(const SearchJobConfig& config, const comm::Communicator& comm,
                           const BuildObserver& observer);

}  // namespace mpishards::rank

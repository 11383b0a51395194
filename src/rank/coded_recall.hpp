#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/timer.hpp"
#include "core/topk.hpp"
#include "io/range.hpp"
#include "io/vector_source.hpp"
#include "rank/candidate_ranker.hpp"
#include "rank/job_plan.hpp"
#include "rank/recall_estimate.hpp"
#include "rank/search_engine.hpp"

namespace mpishards::rank {

/// The true neighbors of some queries, from the rows themselves, which stream past where they don't fit into
/// memory. Collective over comm.
/// @param rows     of the base that count
/// @param shape    of the job: threads and memory
/// @param config   metric, engine and options of the job
/// @param queries  float32, the same on every rank; at least one
/// @param[out] rows_hash  of all rows that were read, see hash_rows
/// @return this rank's slice; nothing where a stop was asked for
std::optional<TopK> find_true_neighbors(const io::VectorSource& base, io::Range rows, const JobShape& shape,
                                        const SearchEngineConfig& config, const Matrix& queries,
                                        const comm::Communicator& comm, PhaseClock& clock,
                                        std::uint64_t& rows_hash);

/// Tells what share of the true neighbors a search that names candidates finds, by searching sampled queries.
/// Every member is collective over the engine's ranks.
class CodedRecall {
 public:
  /// How the queries are searched.
  struct Settings {
    std::int64_t candidates = 0;  // a query
    std::int64_t batch = 0;       // queries at once
  };

  /// Collective. @param queries  of which `truth` is this rank's slice
  CodedRecall(SearchEngine& engine, const CandidateRanker& ranker, const Matrix& queries, const TopK& truth,
              const Settings& settings, const comm::Communicator& comm);

  /// The recall of a number of lists, on all sampled queries. Leaves the engine at it; 0: as it is.
  RecallEstimate measure(std::int64_t nprobe) { return search(nprobe).all; }

  /// Finds about the fewest lists with which one half of the queries reaches `wanted`, or the most, and
  /// tells the recall of the other half. Leaves the engine at them.
  /// One query alone only chooses. @pre at least one query; wanted <= 1; 1 <= fewest <= most
  RecallEstimate choose(double wanted, std::int64_t fewest, std::int64_t most);

 private:
  /// Every second query chooses the number of lists, the others tell what it is worth.
  struct Trial {
    RecallEstimate all;
    RecallEstimate chooses;
    RecallEstimate tells;
  };
  Trial search(std::int64_t nprobe);
  void search_batch(std::int64_t begin, std::int64_t end, std::array<std::int64_t, 2>& found);
  RecallEstimate estimate(std::int64_t nprobe, std::int64_t queries, std::int64_t found) const;

  SearchEngine& engine_;
  const CandidateRanker& ranker_;
  const Matrix& queries_;
  std::int64_t k_;               // true neighbors that each query has
  std::vector<float> farthest_;  // of them, for each query
  Metric metric_;
  Settings settings_;
  const comm::Communicator& comm_;
};

}  // namespace mpishards::rank

#include "rank/coded_recall.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/copy_rows.hpp"
#include "rank/query_pass.hpp"
#include "rank/shard_loader.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// Places of an answer that are as near as a true neighbor: equal distances count, whichever row has them.
std::int64_t count_found(ConstNeighborRow answer, float farthest, const Closer& closer) {
  std::int64_t found = 0;
  for (std::size_t i = 0; i < answer.neighbors.size(); ++i)
    if (answer.neighbors[i] != kNoNeighbor && !closer(0, farthest, 0, answer.distances[i])) ++found;
  return found;
}

JobPlan plan_truth(const JobShape& shape) {
  try {
    return plan_job(shape);
  } catch (const Error& error) {
    throw Error(error.kind(), "to find the true neighbors of " + std::to_string(shape.nq) +
                                  " queries, which tell the recall: " + error.what());
  }
}

}  // namespace

std::optional<TopK> find_true_neighbors(const io::VectorSource& base, io::Range rows, const JobShape& shape,
                                        const SearchEngineConfig& config, const Matrix& queries,
                                        const comm::Communicator& comm, PhaseClock& clock,
                                        std::uint64_t& rows_hash) {
  JobShape whole = shape;
  whole.nq = queries.rows();
  whole.batch = queries.rows();
  whole.codec.reset();
  whole.faiss.reset();
  whole.lists = 0;
  JobPlan plan;
  std::unique_ptr<SearchEngine> engine;
  RoutedBatch batch;
  comm::agree(comm, [&] {
    plan = plan_truth(whole);
    SearchEngineConfig flat = config;
    flat.index = "flat";
    flat.router = "all";
    flat.lists = nullptr;
    flat.has_faiss = false;
    flat.routing.lists_of_rank.clear();
    engine = std::make_unique<SearchEngine>(flat, comm, clock);
    batch.batch_nq = queries.rows();
    batch.queries = copy_rows(queries, 0, queries.rows());
  });
  const ShardLoader loader(base, false, config.options.threads, false);
  TopK nearest(merge::slice_of(queries.rows(), comm.rank(), comm.size()).size(), whole.k, config.metric);
  for (const io::Range group : cut_groups(plan, whole.rows, QueryPass{})) {
    if (agree_on_stop(comm) > 0) return std::nullopt;
    Shard shard;
    comm::agree(comm, [&] {
      const PhaseClock::Scope scope(clock, Phase::read);
      shard =
          loader.load(whole.shards({rows.begin + group.begin, rows.begin + group.end}).shard(comm.rank()));
      engine->load(shard.vectors.view(), {shard.rows.begin, {}});
    });
    rows_hash += comm.sum_wrapping(shard.content_hash);
    merge_into(nearest, engine->search(batch, {}, whole.k));
    engine->load({}, {});
  }
  return nearest;
}

CodedRecall::CodedRecall(SearchEngine& engine, const CandidateRanker& ranker, const Matrix& queries,
                         const TopK& truth, const Settings& settings, const comm::Communicator& comm)
    : engine_(engine),
      ranker_(ranker),
      queries_(queries),
      k_(truth.k()),
      farthest_(static_cast<std::size_t>(queries.rows())),
      metric_(truth.metric()),
      settings_(settings),
      comm_(comm) {
  std::vector<float> mine;
  for (std::int64_t q = 0; q < truth.nq(); ++q) mine.push_back(truth.kth_distance(q));
  comm_.all_gather_floats(mine, comm_.all_gather(std::ssize(mine)), farthest_);
}

RecallEstimate CodedRecall::estimate(std::int64_t nprobe, std::int64_t queries, std::int64_t found) const {
  if (queries == 0) return {.nprobe = nprobe};
  RecallEstimate estimate{nprobe, queries, static_cast<double>(found) / static_cast<double>(queries * k_)};
  std::tie(estimate.low, estimate.high) = wilson_interval(estimate.recall, queries);
  return estimate;
}

CodedRecall::Trial CodedRecall::search(std::int64_t nprobe) {
  if (nprobe > 0) engine_.set_nprobe(nprobe);
  std::array<std::int64_t, 2> found{};  // by the even queries, and by the odd ones
  for (std::int64_t begin = 0; begin < queries_.rows(); begin += settings_.batch)
    search_batch(begin, std::min(queries_.rows(), begin + settings_.batch), found);
  const std::int64_t n_tell = queries_.rows() / 2;
  const std::int64_t even = comm_.sum(found[0]);
  const std::int64_t odd = comm_.sum(found[1]);
  return {.all = estimate(nprobe, queries_.rows(), even + odd),
          .chooses = estimate(nprobe, queries_.rows() - n_tell, even),
          .tells = estimate(nprobe, n_tell, odd)};
}

void CodedRecall::search_batch(std::int64_t begin, std::int64_t end, std::array<std::int64_t, 2>& found) {
  const RoutedBatch routed =
      engine_.scatter(comm_.is_root() ? copy_rows(queries_, begin, end) : Matrix(), queries_.cols());
  const TopK candidates = engine_.search(routed, {}, settings_.candidates);
  const std::int64_t first = begin + merge::slice_of(end - begin, comm_.rank(), comm_.size()).begin;
  comm::agree(comm_, [&] {
    const TopK ranked = ranker_.rank(routed.slice.view().as<float>(), candidates, k_);
    for (std::int64_t q = 0; q < ranked.nq(); ++q) {
      const auto query = static_cast<std::size_t>(first + q);
      found[query % 2] += count_found(ranked.row(q), farthest_[query], Closer(metric_));
    }
  });
}

RecallEstimate CodedRecall::choose(double wanted, std::int64_t fewest, std::int64_t most) {
  std::int64_t too_few = fewest - 1;
  std::int64_t enough = fewest;
  Trial trial = search(enough);
  while (trial.chooses.recall < wanted && enough < most) {
    too_few = enough;
    enough = std::min(most, 2 * enough);
    trial = search(enough);
  }
  while (enough - too_few > 1) {
    const std::int64_t tried = too_few + (enough - too_few) / 2;
    const Trial between = search(tried);
    if (between.chooses.recall >= wanted) {
      enough = tried;
      trial = between;
    } else {
      too_few = tried;
    }
  }
  engine_.set_nprobe(enough);
  return trial.tells;
}

}  // namespace mpishards::rank

#include "rank/recall_curve.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/candidate_ranker.hpp"
#include "rank/coded_recall.hpp"
#include "rank/copy_rows.hpp"
#include "rank/freed_rows.hpp"
#include "rank/host_info.hpp"
#include "rank/index_check.hpp"
#include "rank/job_engine.hpp"
#include "rank/job_inputs.hpp"
#include "rank/query_reader.hpp"
#include "rank/shard_loader.hpp"
#include "rank/shard_map.hpp"

namespace mpishards::rank {

namespace {

/// The settings of the search that the sweep repeats: one batch, with the most lists.
SearchJobConfig one_batch(const CurveTask& task) {
  SearchJobConfig job = task.job;
  job.batch = std::numeric_limits<std::int64_t>::max();
  job.nprobe = task.nprobes.back();
  return job;
}

/// The plan in which the index stays in memory. @throws Error{config} where it has no room
JobPlan plan_resident(JobShape shape) {
  const std::int64_t allowed = std::exchange(shape.memory_bytes, std::numeric_limits<std::int64_t>::max());
  JobPlan plan = plan_job(shape);
  plan.memory_limit_bytes = allowed;
  if (plan.memory_bytes > allowed)
    throw Error(ErrorKind::config, "the index and all " + std::to_string(shape.nq) +
                                       " queries as one batch take " + format_bytes(plan.memory_bytes) +
                                       " a rank, but --memory allows " + format_bytes(allowed) +
                                       ", and a base that streams has no curve; use more ranks or more "
                                       "--memory, fewer queries, or a smaller largest --nprobe");
  return plan;
}

/// One sweep. Methods that run() names are collective.
class CurveSweep {
 public:
  CurveSweep(const CurveTask& task, const comm::Communicator& comm, const CurveObserver& observer)
      : task_(task), job_(one_batch(task)), comm_(comm), observer_(observer) {}

  void run();

 private:
  void prepare();
  void load();
  void load_rows();
  void load_faiss();
  void read_queries();
  void find_truth();
  void measure(std::int64_t nprobe);
  TopK true_neighbors(const Matrix& queries);
  double search_once(TopK& slice);
  double distances_so_far() const;
  TopK gathered(const TopK& slice) const;

  const CurveTask& task_;
  SearchJobConfig job_;
  const comm::Communicator& comm_;
  const CurveObserver& observer_;
  PhaseClock clock_;
  JobInputs inputs_;
  CurveRun run_;
  std::unique_ptr<SearchEngine> engine_;
  std::unique_ptr<CandidateRanker> ranker_;  // where candidates are named
  Shard shard_;
  ShardLists shard_lists_;
  Matrix queries_;  // of root
  std::optional<TopK> truth_;
  double truth_seconds_ = 0;
};

void CurveSweep::run() {
  prepare();
  read_queries();
  if (task_.needs_truth && ranker_) find_truth();  // while no codes are in memory
  load();
  comm::agree(comm_, [&] {
    if (comm_.is_root() && observer_.loaded) observer_.loaded(run_);
  });
  if (task_.needs_truth && !ranker_) find_truth();
  comm::agree(comm_, [&] {
    if (comm_.is_root() && truth_ && observer_.truth) observer_.truth(std::move(*truth_), truth_seconds_);
  });
  for (const std::int64_t nprobe : task_.nprobes) measure(nprobe);
}

void CurveSweep::prepare() {
  inputs_ = open_inputs(job_, comm_);
  run_.warnings = inputs_.warnings;
  run_.shape = shape_of(job_, inputs_, comm_, run_.warnings);
  comm::agree(comm_, [&] {
    if (!inputs_.lists && !(inputs_.has_faiss && !inputs_.index->faiss.parameter.empty()))
      throw Error(ErrorKind::usage, job_.index_directory +
                                        " has nothing to sweep; expected an index "
                                        "such as mpishards build --index ivf1024 makes");
    run_.plan = plan_resident(run_.shape);
    engine_ =
        std::make_unique<SearchEngine>(engine_config(job_, inputs_, run_.shape, run_.plan), comm_, clock_);
    if (inputs_.names_candidates())
      ranker_ =
          std::make_unique<CandidateRanker>(*inputs_.base, job_.metric, job_.isa, run_.shape.own_threads);
  });
  run_.merge = job_.merge != "auto"
                   ? job_.merge
                   : std::string(merge::choose_merge(comm_.size(), run_.shape.nq, run_.shape.searched_k()));
}

void CurveSweep::load() {
  if (inputs_.has_faiss)
    load_faiss();
  else
    load_rows();
  for (std::string& host : comm_.gather_texts(host_name()))
    if (std::ranges::find(run_.hosts, host) == run_.hosts.end()) run_.hosts.push_back(std::move(host));
}

void CurveSweep::load_faiss() {
  comm::agree(comm_, [&] {
    const std::int64_t shards = std::ssize(inputs_.index->shards);
    engine_->load_faiss(job_.index_directory, *inputs_.index,
                        ShardMap({0, shards}, comm_.size()).shard(comm_.rank()));
    run_.engine = engine_->index().description();
  });
}

void CurveSweep::load_rows() {
  comm::agree(comm_, [&] {
    const ShardLoader loader(inputs_.searched(), false, run_.shape.own_threads, !ranker_);
    shard_ = loader.load(run_.shape.shards(inputs_.base_rows).shard(comm_.rank()));
    shard_lists_ = ShardLists(*inputs_.lists, shard_.rows);
    engine_->load(shard_.vectors.view(), shard_.row_ids(), shard_lists_.view());
    run_.engine = engine_->index().description();
  });
  const std::uint64_t rows_hash = comm_.sum_wrapping(shard_.content_hash);
  const std::uint64_t ids_hash = comm_.sum_wrapping(shard_.ids_hash);
  comm::agree(comm_, [&] {
    if (comm_.is_root())
      require_undamaged(job_.index_directory, *inputs_.index, ranker_ != nullptr, rows_hash,
                        ranker_ ? std::nullopt : std::optional(ids_hash));
  });
}

void CurveSweep::read_queries() {
  comm::agree(comm_, [&] {
    if (comm_.is_root())
      queries_ = QueryReader(*inputs_.queries, run_.shape.own_threads).take(inputs_.query_rows).queries;
  });
}

void CurveSweep::find_truth() {
  Matrix everywhere;
  comm::agree(comm_, [&] {
    everywhere = comm_.is_root() ? copy_rows(queries_, 0, queries_.rows())
                                 : Matrix(DType::f32, run_.shape.nq, run_.shape.d);
  });
  comm_.broadcast_bytes(everywhere.data(), everywhere.bytes());
  const double begin = steady_seconds();
  truth_ = gathered(true_neighbors(everywhere));
  truth_seconds_ = steady_seconds() - begin;
}

/// This rank's slice.
TopK CurveSweep::true_neighbors(const Matrix& queries) {
  if (!ranker_) return engine_->search_all_lists(queries.view().as<float>(), run_.shape.k);
  std::uint64_t rows_hash = 0;
  std::optional<TopK> slice = find_true_neighbors(*inputs_.base, inputs_.base_rows, run_.shape,
                                                  engine_config(job_, inputs_, run_.shape, run_.plan),
                                                  queries, comm_, clock_, rows_hash);
  comm::agree(comm_, [&] {
    if (!slice) throw Error(ErrorKind::stopped, "stopped; a curve keeps nothing");
    if (comm_.is_root())
      require_undamaged(job_.index_directory, *inputs_.index, false, rows_hash, std::nullopt);
  });
  return std::move(*slice);
}

void CurveSweep::measure(std::int64_t nprobe) {
  engine_->set_nprobe(nprobe);
  TopK slice;
  const double screened_before = distances_so_far();
  search_once(slice);
  CurvePoint point{.nprobe = nprobe};
  point.rows_share = (distances_so_far() - screened_before) /
                     (static_cast<double>(run_.shape.nq) * static_cast<double>(run_.shape.rows));
  std::vector<double> seconds;
  for (std::int64_t i = 0; i < task_.repeats; ++i) seconds.push_back(search_once(slice));
  point.seconds = median(seconds);
  TopK answers = gathered(slice);
  comm::agree(comm_, [&] {
    if (comm_.is_root() && observer_.point) observer_.point(point, std::move(answers));
  });
}

/// @param[out] slice  this rank's answers @return the slowest rank's seconds
double CurveSweep::search_once(TopK& slice) {
  Matrix batch;
  comm::agree(comm_, [&] {
    if (comm_.is_root()) batch = copy_rows(queries_, 0, queries_.rows());
  });
  comm_.barrier();
  const double begin = steady_seconds();
  const RoutedBatch routed = engine_->scatter(std::move(batch), run_.shape.d);
  slice = engine_->search(routed, {}, run_.shape.searched_k());
  comm::agree(comm_, [&] {
    if (ranker_) slice = ranker_->rank(routed.slice.view().as<float>(), slice, run_.shape.k);
  });
  return comm_.max(steady_seconds() - begin);
}

/// Query x row pairs that all ranks screened until now.
double CurveSweep::distances_so_far() const {
  return static_cast<double>(comm_.sum(engine_->index().counters().distances));
}

/// All ranks' slices, on root; elsewhere nothing.
TopK CurveSweep::gathered(const TopK& slice) const {
  const std::int64_t k = run_.shape.k;
  std::vector<std::int64_t> entries;
  for (int rank = 0; rank < comm_.size(); ++rank)
    entries.push_back(merge::slice_of(run_.shape.nq, rank, comm_.size()).size() * k);
  TopK all;
  comm::agree(comm_, [&] {
    if (comm_.is_root()) all = TopK(run_.shape.nq, k, job_.metric);
  });
  const auto own = static_cast<std::size_t>(slice.nq() * k);
  const auto total = static_cast<std::size_t>(all.nq() * all.k());
  comm_.gather_records<GlobalId>({slice.neighbors(), own}, entries, {all.neighbors(), total});
  comm_.gather_records<float>({slice.distances(), own}, entries, {all.distances(), total});
  return all;
}

}  // namespace

std::vector<std::int64_t> usual_ef_searches() {
  return {16, 32, 64, 128, 256, 512};
}

std::vector<std::int64_t> usual_nprobes(std::int64_t lists) {
  std::vector<std::int64_t> nprobes;
  for (std::int64_t nprobe = 1; nprobe < lists; nprobe *= 2) nprobes.push_back(nprobe);
  nprobes.push_back(lists);
  return nprobes;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void run_recall_curve(const CurveTask& task, const comm::Communicator& comm, const CurveObserver& observer) {
  return_freed_rows();
  CurveSweep(task, comm, observer).run();
}

}  // namespace mpishards::rank

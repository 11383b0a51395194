#include "rank/search_job.hpp"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/roof.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/candidate_ranker.hpp"
#include "rank/coded_recall.hpp"
#include "rank/freed_rows.hpp"
#include "rank/host_info.hpp"
#include "rank/index_check.hpp"
#include "rank/index_spec.hpp"
#include "rank/job_attributes.hpp"
#include "rank/job_engine.hpp"
#include "rank/job_inputs.hpp"
#include "rank/job_output.hpp"
#include "rank/query_pass.hpp"
#include "rank/query_reader.hpp"
#include "rank/rank_log.hpp"
#include "rank/rank_report.hpp"
#include "rank/search_engine.hpp"
#include "rank/self_check.hpp"
#include "rank/shard_loader.hpp"
#include "rank/shard_map.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// Saving the state of a streamed pass takes at most about this share of the time.
constexpr double kCheckpointShare = 0.1;

/// Name of the hash of the base's first rows in the journal.
std::string prefix_name(std::int64_t rows) {
  return "base rows 0:" + std::to_string(rows);
}

/// Several numbers of lists are tried to reach a recall: codes that stream would stream for each.
void require_resident_codes(const SearchJobConfig& config, const JobShape& shape, const JobPlan& plan) {
  if (shape.codec && plan.groups > 1 && config.nprobe == 0)
    throw Error(ErrorKind::config,
                "the codes don't fit into --memory, so the lists that a recall takes can't be found; raise "
                "--memory, use more ranks, or name --nprobe");
}

/// What a wanted recall may choose from: numbers of lists, or the parameter of FAISS' indexes.
io::Range candidates_parameter_range(const JobInputs& inputs, const JobShape& shape) {
  constexpr std::int64_t kMostEfSearch = 4096;
  if (inputs.lists) return {1, inputs.lists->count()};
  if (inputs.index->faiss.parameter == "nprobe") return {1, inputs.index->faiss.most};
  // FAISS looks at as many as it is to name at least.
  return {shape.searched_k(), std::max(kMostEfSearch, shape.searched_k())};
}

io::Range shifted(io::Range range, std::int64_t by) {
  return {range.begin + by, range.end + by};
}

/// A batch search from opened inputs to the published result. One object a run; every method that is named in
/// run() is collective.
class SearchJob {
 public:
  SearchJob(const SearchJobConfig& config, const comm::Communicator& comm, const JobObserver& observer)
      : config_(config), comm_(comm), observer_(observer), started_(utc_now()) {}

  SearchSummary run();

 private:
  void prepare();
  void make_engine();
  void open_output();
  void search_passes();
  void run_pass(const QueryPass& pass, std::span<const io::Range> groups, const QueryPass* next);
  void load_group(io::Range group);
  void read_group(io::Range group);
  void load_faiss();
  void index_shard(kernels::RowIds ids);
  void prefetch_group(io::Range group);
  void measure_recall();
  void measure_candidates_recall();
  RecallEstimate choose_parameter(CodedRecall& recall);
  Matrix sampled_queries();
  TopK rank_candidates(const RoutedBatch& routed, std::int64_t first_row, const TopK& candidates);
  RecallEstimate estimate_recall(const std::vector<std::vector<std::int64_t>>& depths) const;
  bool has_lists() const { return inputs_.lists.has_value(); }
  bool has_codes() const { return inputs_.codes != nullptr; }
  bool names_candidates() const { return inputs_.names_candidates(); }
  bool has_parameter() const {
    return has_lists() || (inputs_.has_faiss && !inputs_.index->faiss.parameter.empty());
  }
  void begin_pass(const QueryPass& pass, bool streamed);
  void restore_running(const QueryPass& pass);
  void choose_checked_queries(const QueryPass& pass);
  void search_group(const QueryPass& pass, io::Range group, bool last_group);
  void search_batch(const QueryPass& pass, std::size_t batch, bool last_group);
  const RoutedBatch& routed_batch(const QueryPass& pass, std::size_t batch);
  void keep_running(std::size_t batch, TopK slice);
  kernels::RowIds shard_ids() const;
  TopK without_selves(std::int64_t first_row, TopK slice) const;
  void save(const QueryPass& pass, io::Range group, std::int64_t ahead_end);
  bool is_checkpoint_due() const;
  bool stop_after_batch(const QueryPass& pass, std::size_t batch, io::Range group, bool last_group);
  void note_base_hash(bool last_group);
  void report_progress(const QueryPass& pass, io::Range group, std::size_t batches_done);
  void symmetrize_graph();
  void finish();
  void publish();
  io::Attributes attributes() const;
  RankReport own_report() const;

  io::Range shard_of(io::Range group) const { return summary_.shape.shards(group).shard(comm_.rank()); }
  io::Range base_rows_of(io::Range group) const { return shifted(group, inputs_.base_rows.begin); }
  merge::Slice slice_of(io::Range batch) const {
    return merge::slice_of(batch.end - batch.begin, comm_.rank(), comm_.size());
  }

  const SearchJobConfig& config_;
  const comm::Communicator& comm_;
  const JobObserver& observer_;
  std::string started_;
  PhaseClock clock_;

  JobInputs inputs_;
  SearchSummary summary_;
  std::unique_ptr<JobOutput> output_;
  std::unique_ptr<SearchEngine> engine_;
  std::unique_ptr<QueryReader> reader_;
  std::unique_ptr<ShardLoader> loader_;
  std::unique_ptr<SelfChecker> checker_;
  std::unique_ptr<CandidateRanker> ranker_;  // where candidates are named
  std::string engine_name_;
  RankLog log_;
  double roof_flops_per_second_ = 0;

  Shard shard_;  // what the index searches now
  ShardLists shard_lists_;
  io::Range loaded_;  // group that it belongs to
  std::optional<io::Range> prefetched_;
  std::uint64_t base_hash_ = 0;            // on root: of the pass's rows up to the end of the group at hand
  std::uint64_t group_hash_ = 0;           // of the group at hand, summed over ranks
  std::optional<std::uint64_t> ids_hash_;  // like base_hash_; nothing where an earlier run saw a part
  std::uint64_t queries_hash_ = 0;
  std::int64_t rows_searched_ = 0;
  std::int64_t bytes_read_ = 0;
  double read_seconds_ = 0;
  std::int64_t dropped_rows_ = 0;

  // Of the pass at hand, by batch; queries and bounds are kept only while the base streams.
  std::vector<std::optional<RoutedBatch>> batches_;
  std::vector<TopK> running_;
  std::vector<std::vector<float>> bounds_;
  bool streamed_ = false;
  double saved_at_ = 0;
  double save_seconds_ = 0;  // that the last save took

  ProgressMeter meter_;
};

void SearchJob::prepare() {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) refuse_output(config_);
  });
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    inputs_ = open_inputs(config_, comm_);
  }
  summary_.warnings = inputs_.warnings;
  summary_.shape = shape_of(config_, inputs_, comm_, summary_.warnings);
  comm::agree(comm_, [&] {
    summary_.plan = plan_job(summary_.shape);
    require_resident_codes(config_, summary_.shape, summary_.plan);
    log_ = RankLog(config_.log_folder, comm_.rank());
  });
  log_.info("prepared", {{"rows", summary_.shape.rows},
                         {"d", summary_.shape.d},
                         {"queries", summary_.shape.nq},
                         {"k", summary_.shape.k},
                         {"groups", summary_.plan.groups},
                         {"batch", summary_.plan.batch},
                         {"threads", summary_.shape.own_threads},
                         {"memory_bytes", summary_.plan.memory_bytes}});
  if (observer_.prepared && comm_.is_root())
    observer_.prepared({summary_.shape, summary_.plan, summary_.warnings});
}

void SearchJob::make_engine() {
  double product_flops_per_second = 0;
  comm::agree(comm_, [&] {
    const SearchEngineConfig engine = engine_config(config_, inputs_, summary_.shape, summary_.plan);
    engine_name_ = engine.engine;
    engine_ = std::make_unique<SearchEngine>(engine, comm_, clock_);
    if (has_parameter()) engine_->set_nprobe(std::max<std::int64_t>(1, config_.nprobe));
    loader_ = std::make_unique<ShardLoader>(inputs_.searched(), config_.drop_nonfinite,
                                            summary_.shape.own_threads, !has_codes());
    if (names_candidates())
      ranker_ = std::make_unique<CandidateRanker>(*inputs_.base, config_.metric, config_.isa,
                                                  summary_.shape.own_threads);
    checker_ = std::make_unique<SelfChecker>(config_.metric, summary_.shape.k, summary_.shape.own_threads);
    if (comm_.is_root())
      reader_ = std::make_unique<QueryReader>(*inputs_.queries, summary_.shape.own_threads);
    roof_flops_per_second_ =
        kernels::measure_peak_flops(summary_.shape.own_threads, config_.roof_probe_seconds / 3);
    product_flops_per_second =
        kernels::measure_product_flops(summary_.shape.own_threads, config_.roof_probe_seconds * 2 / 3);
  });
  JobRoofs roofs;
  roofs.flops_per_second = comm_.min(product_flops_per_second);
  comm::agree(comm_, [&] { summary_.plan = plan_job(summary_.shape, roofs); });
}

SearchSummary SearchJob::run() {
  prepare();
  // Before the output is begun: a machine without the engine and bad queries must not leave anything behind.
  make_engine();
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    queries_hash_ = check_queries(inputs_, summary_.shape.own_threads, comm_);
  }
  open_output();
  try {
    search_passes();
    if (!summary_.stopped) symmetrize_graph();
  } catch (const comm::AgreedError& error) {
    if (error.kind() != ErrorKind::stopped) {
      log_.error("failed", {{"kind", to_string(error.kind())}, {"cause", error.what()}});
      output_->discard_if_empty();
      throw;
    }
    summary_.stopped = true;
  }
  finish();
  return std::move(summary_);
}

void SearchJob::open_output() {
  const PhaseClock::Scope scope(clock_, Phase::write);
  output_ = std::make_unique<JobOutput>(config_, inputs_, summary_.shape, comm_);
  summary_.resumes = output_->resumes();
  if (comm_.is_root() && !output_->is_locked())
    summary_.warnings.push_back("the file system of " + config_.output +
                                " has no locks: nothing keeps a second job from writing it");
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    if (const auto known = output_->content_hash("queries"); known && *known != queries_hash_)
      throw Error(ErrorKind::config,
                  "the queries' contents changed since the run that is continued here; "
                  "start over with --no-resume");
    output_->record_content_hash("queries", queries_hash_);
    // Where every query is answered already, the base is not read again.
    base_hash_ = output_->content_hash("base").value_or(0);
  });
}

void SearchJob::search_passes() {
  const std::vector<QueryPass> passes =
      cut_passes(summary_.plan, output_->unfinished(), output_->checkpoint());
  meter_ = ProgressMeter(summary_.shape, summary_.plan, passes, clock_.elapsed_seconds());
  comm::agree(comm_, [&] {
    if (comm_.is_root() && observer_.began)
      observer_.began(meter_.at_begin(clock_.elapsed_seconds()), output_->resumed_text());
  });
  // What is left of a stream that a stopped run began lies on other ranks than the whole base would.
  if (std::ranges::any_of(passes, [](const QueryPass& pass) { return pass.is_continued(); }))
    engine_->route_everywhere();
  if (names_candidates())
    measure_candidates_recall();
  else if (has_lists())
    measure_recall();
  for (std::size_t p = 0; p < passes.size() && !summary_.stopped; ++p) {
    const std::vector<io::Range> groups = cut_groups(summary_.plan, summary_.shape.rows, passes[p]);
    run_pass(passes[p], groups, p + 1 < passes.size() ? &passes[p + 1] : nullptr);
  }
}

/// Where the graph is to be undirected: makes it so, in the memory that the base leaves.
void SearchJob::symmetrize_graph() {
  if (config_.symmetry == Symmetry::directed || output_->is_symmetrized()) return;
  const PhaseClock::Scope scope(clock_, Phase::merge);
  engine_->load({}, {});
  shard_ = Shard();
  batches_.clear();
  const std::int64_t entries = [&] {
    const io::CsrSlices directed = output_->directed_graph();
    return symmetrize({.directed = &directed,
                       .out_path = output_->symmetrized_path(),
                       .symmetry = config_.symmetry,
                       .metric = config_.metric,
                       .memory_bytes = summary_.shape.memory_bytes},
                      comm_);
  }();
  output_->replace_by_symmetrized(entries);
  log_.info("symmetrized", {{"entries", entries}});
}

void SearchJob::prefetch_group(io::Range group) {
  prefetched_ = group;
  loader_->prefetch(shard_of(base_rows_of(group)));
}

/// Makes a group's rows searchable; what is loaded already stays.
void SearchJob::load_group(io::Range group) {
  if (loaded_ == group) return;
  if (inputs_.has_faiss) {
    load_faiss();
    loaded_ = group;
    return;
  }
  read_group(group);
  index_shard(shard_ids());
  loaded_ = group;
}

void SearchJob::read_group(io::Range group) {
  const PhaseClock::Scope scope(clock_, Phase::read);
  loaded_ = {};
  engine_->load({}, {});
  shard_ = Shard();
  comm::agree(comm_, [&] {
    if (!prefetched_) prefetch_group(group);
    prefetched_.reset();
    shard_ = loader_->take();
    bytes_read_ += shard_.bytes_read;
    read_seconds_ += shard_.read_seconds;
    dropped_rows_ += shard_.dropped_rows;
    clock_.enter(Phase::wait);
  });
  log_.info("loaded", {{"row_begin", shard_.rows.begin},
                       {"row_end", shard_.rows.end},
                       {"dropped", shard_.dropped_rows},
                       {"read_seconds", shard_.read_seconds}});
}

/// Of FAISS' indexes, this rank's whole shards.
void SearchJob::load_faiss() {
  const PhaseClock::Scope scope(clock_, Phase::read);
  comm::agree(comm_, [&] {
    const double start = steady_seconds();
    const io::IndexManifest& index = *inputs_.index;
    const io::Range shards = ShardMap({0, std::ssize(index.shards)}, comm_.size()).shard(comm_.rank());
    shard_ = Shard();
    shard_.content_hash = engine_->load_faiss(config_.index_directory, index, shards);
    for (std::int64_t s = shards.begin; s < shards.end; ++s) {
      const io::IndexShard& shard = index.shards[narrow<std::size_t>(s)];
      if (s == shards.begin) shard_.rows = {shard.first_row, shard.first_row};
      shard_.rows.end = shard.first_row + shard.rows;
      bytes_read_ += shard.faiss_bytes;
    }
    read_seconds_ += steady_seconds() - start;
    clock_.enter(Phase::wait);
  });
  log_.info("loaded", {{"row_begin", shard_.rows.begin}, {"row_end", shard_.rows.end}});
}

void SearchJob::index_shard(kernels::RowIds ids) {
  const PhaseClock::Scope scope(clock_, Phase::search);
  comm::agree(comm_, [&] {
    shard_lists_ = has_lists() ? ShardLists(*inputs_.lists, shard_.rows) : ShardLists();
    engine_->load(shard_.vectors.view(), ids, shard_lists_.view());
  });
  log_.info("indexed", {{"row_begin", shard_.rows.begin}, {"row_end", shard_.rows.end}});
}

/// Searches some queries in all lists, to tell the recall of looking into some, or how many it takes. A base
/// that streams is read once more for it, so only where the number of lists depends on it.
void SearchJob::measure_recall() {
  const bool resident = summary_.plan.groups == 1;
  if (config_.recall_queries == 0 || (config_.nprobe > 0 && !resident)) return;
  RecallSample sample(sampled_queries(), std::min(summary_.shape.k, summary_.shape.rows), config_.metric,
                      comm_);
  const std::vector<io::Range> groups = cut_groups(summary_.plan, summary_.shape.rows, QueryPass{});
  for (std::size_t g = 0; g < groups.size(); ++g) {
    read_group(groups[g]);
    if (agree_on_stop(comm_) > 0) {
      summary_.stopped = true;
      return;
    }
    if (g + 1 < groups.size()) prefetch_group(groups[g + 1]);
    index_shard({shard_.rows.begin, {}});
    sample.observe(*engine_);
  }
  const std::vector<std::vector<std::int64_t>> depths = sample.depths(*engine_, *inputs_.lists);
  comm::agree(comm_, [&] {
    if (comm_.is_root()) summary_.recall = estimate_recall(depths);
  });
  comm_.broadcast(summary_.recall);
  engine_->set_nprobe(summary_.recall.nprobe);
  log_.info("recall", {{"nprobe", engine_->nprobe()}, {"recall", summary_.recall.recall}});
  if (resident) {
    index_shard(shard_ids());
    loaded_ = groups.front();
  }
}

/// The queries that tell the recall, on every rank.
Matrix SearchJob::sampled_queries() {
  std::vector<std::int64_t> rows = SelfChecker::choose(summary_.shape.nq, config_.recall_queries);
  for (std::int64_t& row : rows) row += inputs_.query_rows.begin;
  return read_queries_everywhere(reader_.get(), rows, summary_.shape.d, comm_);
}

/// The same where codes or FAISS' indexes are searched: what they find is set beside the neighbors among the
/// rows themselves, which are read once for it.
void SearchJob::measure_candidates_recall() {
  if (config_.recall_queries == 0 || summary_.plan.groups > 1) return;
  const Matrix sample = sampled_queries();
  JobShape shape = summary_.shape;
  shape.k = std::min(shape.k, shape.rows);
  std::uint64_t rows_hash = 0;
  const std::optional<TopK> truth = find_true_neighbors(
      *inputs_.base, inputs_.base_rows, shape, engine_config(config_, inputs_, summary_.shape, summary_.plan),
      sample, comm_, clock_, rows_hash);
  summary_.stopped = !truth;
  if (!truth) return;
  comm::agree(comm_, [&] {
    if (comm_.is_root() && config_.parts == 1)
      require_undamaged(config_.index_directory, *inputs_.index, false, rows_hash, std::nullopt);
  });
  const std::vector<io::Range> groups = cut_groups(summary_.plan, summary_.shape.rows, QueryPass{});
  load_group(groups.front());
  CodedRecall recall(*engine_, *ranker_, sample, *truth,
                     {.candidates = summary_.shape.searched_k(), .batch = summary_.plan.batch}, comm_);
  if (config_.nprobe == 0 && has_parameter())
    summary_.recall = choose_parameter(recall);
  else
    summary_.recall = recall.measure(has_parameter() ? engine_->nprobe() : 0);
  log_.info("recall", {{"nprobe", engine_->nprobe()}, {"recall", summary_.recall.recall}});
}

RecallEstimate SearchJob::choose_parameter(CodedRecall& recall) {
  const auto [fewest, most] = candidates_parameter_range(inputs_, summary_.shape);
  const RecallEstimate chosen = recall.choose(config_.recall, fewest, most);
  if (chosen.recall < config_.recall && engine_->nprobe() == most)
    summary_.warnings.emplace_back(
        has_codes()
            ? "the codes name too few of the true neighbors to reach the recall that is "
              "wanted, even from all lists; raise --rerank"
            : "FAISS names too few of the true neighbors to reach the recall that is wanted, even with --" +
                  inputs_.index->faiss.parameter + " " + std::to_string(most) + "; raise --rerank");
  return chosen;
}

/// Where the number of lists is to be found, one half of the sample finds it and the other tells the recall:
/// the half that chose it would flatter it.
RecallEstimate SearchJob::estimate_recall(const std::vector<std::vector<std::int64_t>>& depths) const {
  ProbeDepths chooses;
  ProbeDepths tells;
  for (std::size_t q = 0; q < depths.size(); ++q)
    (config_.nprobe == 0 && q % 2 == 0 ? chooses : tells).add(depths[q]);
  const std::int64_t nprobe = config_.nprobe > 0 ? engine_->nprobe() : chooses.nprobe_for(config_.recall);
  if (tells.queries() == 0) return {.nprobe = nprobe};  // one query alone can't do both
  return tells.recall(nprobe);
}

void SearchJob::run_pass(const QueryPass& pass, std::span<const io::Range> groups, const QueryPass* next) {
  begin_pass(pass, groups.size() > 1 || pass.is_continued());
  for (std::size_t g = 0; g < groups.size() && !summary_.stopped; ++g) {
    load_group(groups[g]);
    if (agree_on_stop(comm_) > 0) {
      summary_.stopped = true;
      return;
    }
    const bool last_group = g + 1 == groups.size();
    rows_searched_ += inputs_.has_faiss ? shard_.rows.end - shard_.rows.begin : shard_.vectors.rows();
    if (!last_group)
      prefetch_group(groups[g + 1]);
    else if (next != nullptr && summary_.plan.groups > 1)
      prefetch_group(cut_groups(summary_.plan, summary_.shape.rows, *next).front());
    if (!pass.is_continued() && !names_candidates())
      checker_->observe(shard_.vectors.view(), shard_ids(), shard_lists_.view());
    search_group(pass, groups[g], last_group);
  }
  if (summary_.stopped || pass.is_continued()) return;
  const PhaseClock::Scope scope(clock_, Phase::other);
  checker_->compare(comm_, output_->slices(), summary_.self_check);
}

void SearchJob::begin_pass(const QueryPass& pass, bool streamed) {
  streamed_ = streamed;
  rows_searched_ = 0;
  base_hash_ = 0;
  ids_hash_ = 0;
  if (pass.rows_done > 0) ids_hash_.reset();
  if (comm_.is_root() && pass.rows_done > 0)
    base_hash_ = output_->content_hash(prefix_name(pass.rows_done)).value_or(0);
  saved_at_ = clock_.elapsed_seconds();
  batches_.clear();
  batches_.resize(pass.batches.size());
  running_.assign(pass.batches.size(), TopK());
  for (std::size_t b = 0; streamed && b < pass.batches.size(); ++b)
    running_[b] = TopK(slice_of(pass.batches[b]).size(), summary_.shape.searched_k(), config_.metric);
  bounds_.assign(pass.batches.size(), {});
  if (pass.is_continued())
    restore_running(pass);
  else
    choose_checked_queries(pass);
}

/// Goes on with the answers that a stopped run saved.
void SearchJob::restore_running(const QueryPass& pass) {
  const PhaseClock::Scope scope(clock_, Phase::read);
  std::vector<TopK> saved(pass.batches.size());
  comm::agree(comm_, [&] {
    for (std::size_t b = 0; b < pass.batches.size(); ++b) {
      const merge::Slice slice = slice_of(pass.batches[b]);
      saved[b] = output_->read_checkpoint(pass.batches[b].begin + slice.begin, slice.size(), config_.metric);
    }
  });
  for (std::size_t b = 0; b < saved.size(); ++b) keep_running(b, std::move(saved[b]));
  summary_.warnings.emplace_back(
      "continued in the middle of a stream: the queries of that pass have no fp64 self-check");
}

/// Draws the pass's share of the queries that are answered again in fp64, and gives them to every rank.
void SearchJob::choose_checked_queries(const QueryPass& pass) {
  const std::int64_t share =
      (config_.self_check_queries * pass.nq() + summary_.shape.nq - 1) / summary_.shape.nq;
  std::vector<std::int64_t> rows;
  for (const std::int64_t position : SelfChecker::choose(pass.nq(), share))
    rows.push_back(pass.result_row(position));
  std::vector<std::int64_t> read_rows = rows;
  for (std::int64_t& row : read_rows) row += inputs_.query_rows.begin;
  Matrix sample = read_queries_everywhere(reader_.get(), read_rows, summary_.shape.d, comm_);
  std::vector<GlobalId> selves;
  if (config_.exclude_self) selves.assign(rows.begin(), rows.end());
  ProbeTable probes;
  if (has_lists() && !has_codes())
    probes =
        plain_probes(config_.metric, inputs_.lists->centroids, sample.view().as<float>(), engine_->nprobe());
  checker_->begin(std::move(sample), std::move(rows), std::move(selves), std::move(probes));
}

/// The batch as this rank must see it: sent once, and kept while the base streams past.
const RoutedBatch& SearchJob::routed_batch(const QueryPass& pass, std::size_t batch) {
  if (batches_[batch]) return *batches_[batch];
  Matrix queries;
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    comm::agree(comm_, [&] {
      if (!comm_.is_root()) {
        clock_.enter(Phase::wait);
        return;
      }
      QueryBatch read = reader_->take(shifted(pass.batches[batch], inputs_.query_rows.begin));
      bytes_read_ += read.bytes_read;
      read_seconds_ += read.read_seconds;
      queries = std::move(read.queries);
      if (batch + 1 < pass.batches.size())
        reader_->prefetch(shifted(pass.batches[batch + 1], inputs_.query_rows.begin));
    });
  }
  batches_[batch] = engine_->scatter(std::move(queries), summary_.shape.d);
  return *batches_[batch];
}

void SearchJob::search_group(const QueryPass& pass, io::Range group, bool last_group) {
  note_base_hash(last_group);  // before the answers: a changed base must not get into them
  for (std::size_t b = 0; b < pass.batches.size(); ++b) {
    const bool seen = pass.batches[b].end <= pass.ahead_end && group.end <= pass.ahead_rows;
    if (!seen) search_batch(pass, b, last_group);
    report_progress(pass, group, b + 1);
    if (stop_after_batch(pass, b, group, last_group)) {
      summary_.stopped = true;
      return;
    }
  }
  meter_.finish_group(pass, group);
  if (!last_group && (config_.checkpoint_seconds == 0 || is_checkpoint_due())) save(pass, group, 0);
}

void SearchJob::search_batch(const QueryPass& pass, std::size_t batch, bool last_group) {
  const RoutedBatch& routed = routed_batch(pass, batch);
  TopK slice = engine_->search(routed, bounds_[batch], summary_.shape.searched_k());
  if (streamed_) {
    merge_into(slice, running_[batch]);
    if (!last_group) return keep_running(batch, std::move(slice));
  }
  const io::Range rows = pass.batches[batch];
  const std::int64_t first_row = rows.begin + slice_of(rows).begin;
  if (names_candidates()) slice = rank_candidates(routed, first_row, slice);
  batches_[batch].reset();
  const PhaseClock::Scope scope(clock_, Phase::write);
  comm::agree(comm_, [&] { output_->write(first_row, without_selves(first_row, std::move(slice))); });
  output_->finish(rows);
  summary_.queries_done += rows.end - rows.begin;
  log_.info("finished", {{"query_begin", rows.begin}, {"query_end", rows.end}});
}

/// What codes or FAISS found, ranked by the rows on disk. @param first_row  of the result
TopK SearchJob::rank_candidates(const RoutedBatch& routed, std::int64_t first_row, const TopK& candidates) {
  const PhaseClock::Scope scope(clock_, Phase::search);
  TopK ranked;
  comm::agree(comm_, [&] {
    ranked = ranker_->rank(routed.slice.view().as<float>(), candidates, summary_.shape.k);
    for (std::int64_t q = 0; q < candidates.nq(); ++q) {
      if (!checker_->is_checked(first_row + q)) continue;
      const PickedRows rows = ranker_->read_one_by_one(candidates.row(q).neighbors);
      checker_->observe_candidates(first_row + q, rows.vectors.view(), rows.ids);
    }
  });
  return ranked;
}

/// Ids of the shard's rows. Of a graph, and of codes, they are row numbers, whatever the file has.
kernels::RowIds SearchJob::shard_ids() const {
  if (config_.exclude_self || has_codes()) return {shard_.rows.begin, {}};
  return shard_.row_ids();
}

/// A batch's slice as it is written. @param first_row  of the result
TopK SearchJob::without_selves(std::int64_t first_row, TopK slice) const {
  if (!config_.exclude_self) return slice;
  std::vector<GlobalId> selves(static_cast<std::size_t>(slice.nq()));
  std::iota(selves.begin(), selves.end(), first_row);
  return without_entries(slice, selves);
}

/// Keeps this rank's slice of a batch, and gives all ranks the distances that further rows have to reach.
void SearchJob::keep_running(std::size_t batch, TopK slice) {
  const PhaseClock::Scope scope(clock_, Phase::merge);
  std::vector<float> mine;
  for (std::int64_t q = 0; q < slice.nq(); ++q) mine.push_back(slice.kth_distance(q));
  const std::vector<std::int64_t> counts = comm_.all_gather(std::ssize(mine));
  std::int64_t total = 0;
  for (const std::int64_t count : counts) total += count;
  bounds_[batch].resize(static_cast<std::size_t>(total));
  comm_.all_gather_floats(mine, counts, bounds_[batch]);
  running_[batch] = std::move(slice);
}

/// Saves the running answers of a streamed pass. @param ahead_end  batches that end by it have seen the
/// group, the others not; 0: all have
void SearchJob::save(const QueryPass& pass, io::Range group, std::int64_t ahead_end) {
  const PhaseClock::Scope scope(clock_, Phase::write);
  const double begin = clock_.elapsed_seconds();
  std::vector<std::pair<std::int64_t, const TopK*>> slices;
  for (std::size_t b = 0; b < pass.batches.size(); ++b)
    slices.emplace_back(pass.batches[b].begin + slice_of(pass.batches[b]).begin, &running_[b]);
  io::Journal::Checkpoint state;
  state.queries = pass.queries;
  state.rows_done = ahead_end > 0 ? group.begin : group.end;
  state.ahead_end = ahead_end;
  state.ahead_rows = ahead_end > 0 ? group.end : 0;
  comm::agree(comm_, [&] {
    const std::uint64_t hash = ahead_end > 0 ? base_hash_ - group_hash_ : base_hash_;
    if (comm_.is_root()) output_->record_content_hash(prefix_name(state.rows_done), hash);
  });
  output_->save_checkpoint(state, slices);
  saved_at_ = clock_.elapsed_seconds();
  save_seconds_ = comm_.max(saved_at_ - begin);
  log_.info("checkpoint", {{"rows_done", state.rows_done}, {"ahead_end", state.ahead_end}});
}

/// Whether enough was done since the state was saved last; the same on every rank. Collective.
bool SearchJob::is_checkpoint_due() const {
  const double seconds = comm_.max(clock_.elapsed_seconds() - saved_at_);
  return seconds >= config_.checkpoint_seconds && seconds * kCheckpointShare >= save_seconds_;
}

/// True when a stop was asked for and everything that is worth keeping is on disk.
bool SearchJob::stop_after_batch(const QueryPass& pass, std::size_t batch, io::Range group, bool last_group) {
  const bool is_last = batch + 1 == pass.batches.size();
  const bool stop = agree_on_stop(comm_) > 0 && !(is_last && last_group);
  if (last_group || is_last) return stop && last_group;
  if (stop || (config_.checkpoint_seconds > 0 && is_checkpoint_due()))
    save(pass, group, std::max(pass.batches[batch].end, pass.ahead_end));
  return stop;
}

/// Adds a group to the hash of the base, and compares it with what an earlier run saw once it is complete.
void SearchJob::note_base_hash(bool last_group) {
  group_hash_ = comm_.sum_wrapping(shard_.content_hash);
  const std::uint64_t group_ids_hash = comm_.sum_wrapping(shard_.ids_hash);
  if (ids_hash_) *ids_hash_ += group_ids_hash;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    base_hash_ += group_hash_;
    if (!last_group) return;
    if (inputs_.index && config_.parts == 1 && !inputs_.has_faiss)  // its files were checked one by one
      require_undamaged(config_.index_directory, *inputs_.index, has_codes(), base_hash_,
                        has_codes() ? std::nullopt : ids_hash_);
    if (const auto known = output_->content_hash("base"); known && *known != base_hash_)
      throw Error(ErrorKind::config,
                  "the base's contents changed since the run that is continued here; start over with "
                  "--no-resume");
    output_->record_content_hash("base", base_hash_);
  });
}

void SearchJob::report_progress(const QueryPass& pass, io::Range group, std::size_t batches_done) {
  if (!observer_.progress || !comm_.is_root()) return;
  observer_.progress(meter_.after_batches(pass, group, batches_done, clock_.elapsed_seconds()));
}

io::Attributes SearchJob::attributes() const {
  RunFacts facts;
  facts.base_hash = base_hash_;
  facts.queries_hash = queries_hash_;
  facts.engine = engine_name_;
  facts.device = engine_->index().description();
  facts.started = started_;
  return result_attributes(config_, inputs_, summary_, facts);
}

RankReport SearchJob::own_report() const {
  RankReport report;
  report.rank = comm_.rank();
  report.host = host_name();
  report.engine = engine_->index().description();
  report.threads = summary_.shape.own_threads;
  report.rows = rows_searched_;
  report.bytes_read = bytes_read_;
  report.read_seconds = read_seconds_;
  report.peak_rss_bytes = peak_rss_bytes();
  report.phase_seconds = clock_.totals_seconds();
  report.spans = clock_.spans();
  report.roof_flops_per_second = roof_flops_per_second_;
  report.counters = engine_->index().counters();
  return report;
}

void SearchJob::finish() {
  summary_.dropped_rows = comm_.sum(dropped_rows_);
  summary_.merge =
      config_.merge != "auto"
          ? config_.merge
          : std::string(merge::choose_merge(comm_.size(), summary_.plan.batch, summary_.shape.searched_k()));
  summary_.pure_read_seconds = comm_.max(read_seconds_);
  summary_.ranks = gather_reports(own_report(), comm_);
  for (const RankReport& rank : summary_.ranks) summary_.counters += rank.counters;
  summary_.nprobe = has_lists() ? engine_->nprobe() : 0;
  summary_.faiss_parameter = inputs_.has_faiss && has_parameter() ? engine_->nprobe() : 0;
  summary_.result_paths = io::result_paths(config_.output, config_.format);
  if (!summary_.stopped) publish();
  // Once more, with publishing in it.
  log_.info(summary_.stopped ? "stopped" : "published", {{"queries", summary_.queries_done}});
  summary_.wall_seconds = comm_.max(clock_.elapsed_seconds());
  summary_.ranks = gather_reports(own_report(), comm_);
}

void SearchJob::publish() {
  const PhaseClock::Scope scope(clock_, Phase::write);
  output_->publish(comm_.is_root() ? attributes() : io::Attributes{});
}

}  // namespace

PreparedJob prepare_search_job(const SearchJobConfig& config, const comm::Communicator& comm) {
  PreparedJob prepared;
  comm::agree(comm, [&] {
    if (comm.is_root()) refuse_output(config);
  });
  const JobInputs inputs = open_inputs(config, comm);
  comm::agree(comm, [&] {
    const std::string engine = engine_of(config, inputs);
    if (!inputs.has_faiss) kernels::make_index(config.index, engine, config.metric, {.isa = config.isa});
  });
  prepared.warnings = inputs.warnings;
  prepared.shape = shape_of(config, inputs, comm, prepared.warnings);
  comm::agree(comm, [&] {
    prepared.plan = plan_job(prepared.shape);
    require_resident_codes(config, prepared.shape, prepared.plan);
  });
  return prepared;
}

SearchSummary run_search_job(const SearchJobConfig& config, const comm::Communicator& comm,
                             const JobObserver& observer) {
  return_freed_rows();
  comm.barrier();  // all clocks start together, so that the phases of every rank sum to the wall time
  return SearchJob(config, comm, observer).run();
}

}  // namespace mpishards::rank

#include "rank/range_job.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "kernels/roof.hpp"
#include "rank/clusters.hpp"
#include "rank/distribute.hpp"
#include "rank/freed_rows.hpp"
#include "rank/host_info.hpp"
#include "rank/job_attributes.hpp"
#include "rank/job_engine.hpp"
#include "rank/job_inputs.hpp"
#include "rank/job_output.hpp"
#include "rank/query_reader.hpp"
#include "rank/range_check.hpp"
#include "rank/range_output.hpp"
#include "rank/range_work.hpp"
#include "rank/rank_log.hpp"
#include "rank/rank_report.hpp"
#include "rank/self_check.hpp"
#include "rank/shard_loader.hpp"
#include "rank/shard_map.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// Of an entry while rows are joined: read, placed, sorted.
constexpr std::int64_t kBytesPerJoinedEntry = 48;

std::string hash_name(io::Range rows) {
  return "base rows " + std::to_string(rows.begin) + ":" + std::to_string(rows.end);
}

std::int64_t size_of(io::Range range) {
  return range.end - range.begin;
}

/// One object a run; every method that is named in run() is collective.
class RangeJob {
 public:
  RangeJob(const SearchJobConfig& config, const comm::Communicator& comm, const JobObserver& observer)
      : config_(config), comm_(comm), observer_(observer), started_(utc_now()) {}

  SearchSummary run();

 private:
  void prepare();
  void make_engine();
  void open_output();
  void plan_work();
  void choose_checked_queries();
  void search_groups();
  void load_group(std::size_t g);
  void note_base_hash(io::Range rows);
  void search_batch(io::Range rows, io::Range batch);
  void search_piece(io::Range rows, io::Range piece, MatrixView<const float> queries, RangeHits& hits);
  RoutedBatch read_batch(io::Range batch);
  void report_progress();
  void finish();
  void publish();
  std::uint64_t base_hash() const;
  RankReport own_report() const;
  Progress progress() const;

  kernels::RowIds shard_ids() const {
    return config_.exclude_self ? kernels::RowIds{shard_.rows.begin, {}} : shard_.row_ids();
  }
  io::Range shard_of(io::Range rows) const { return summary_.shape.shards(rows).shard(comm_.rank()); }

  const SearchJobConfig& config_;
  const comm::Communicator& comm_;
  const JobObserver& observer_;
  std::string started_;
  PhaseClock clock_;

  JobInputs inputs_;
  SearchSummary summary_;
  std::unique_ptr<RangeOutput> output_;
  std::unique_ptr<kernels::Index> index_;
  std::unique_ptr<QueryReader> reader_;
  std::unique_ptr<ShardLoader> loader_;
  std::unique_ptr<RangeChecker> checker_;  // empty where earlier runs found a part
  std::string engine_name_;
  RankLog log_;
  double roof_flops_per_second_ = 0;
  std::uint64_t queries_hash_ = 0;

  std::vector<RangeGroup> groups_;
  Shard shard_;
  std::int64_t piece_ = 0;  // queries searched at once: fewer where they find more than fits
  std::size_t groups_done_ = 0;
  double pairs_total_ = 0;  // that are left at the start
  double pairs_done_ = 0;
  double began_seconds_ = 0;
  std::int64_t rows_searched_ = 0;
  std::int64_t bytes_read_ = 0;
  double read_seconds_ = 0;
  std::int64_t dropped_rows_ = 0;
};

void RangeJob::prepare() {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) refuse_output(config_);
  });
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    inputs_ = open_inputs(config_, comm_);
    comm::agree(comm_, [&] { engine_name_ = engine_of(config_, inputs_); });
  }
  summary_.warnings = inputs_.warnings;
  summary_.shape = shape_of(config_, inputs_, comm_, summary_.warnings);
  comm::agree(comm_, [&] {
    summary_.plan = plan_job(summary_.shape);
    log_ = RankLog(config_.log_folder, comm_.rank());
  });
  log_.info("prepared", {{"rows", summary_.shape.rows},
                         {"d", summary_.shape.d},
                         {"queries", summary_.shape.nq},
                         {"eps", config_.range->eps},
                         {"groups", summary_.plan.groups},
                         {"batch", summary_.plan.batch}});
  if (observer_.prepared && comm_.is_root())
    observer_.prepared({summary_.shape, summary_.plan, summary_.warnings});
}

void RangeJob::make_engine() {
  comm::agree(comm_, [&] {
    index_ = kernels::make_index(config_.index, engine_name_, config_.metric,
                                 {.threads = summary_.shape.own_threads,
                                  .isa = config_.isa,
                                  .device = inputs_.device.device,
                                  .device_ranks = inputs_.device.ranks});
    loader_ =
        std::make_unique<ShardLoader>(*inputs_.base, config_.drop_nonfinite, summary_.shape.own_threads);
    if (comm_.is_root())
      reader_ = std::make_unique<QueryReader>(*inputs_.queries, summary_.shape.own_threads);
    roof_flops_per_second_ =
        kernels::measure_peak_flops(summary_.shape.own_threads, config_.roof_probe_seconds / 3);
  });
}

SearchSummary RangeJob::run() {
  prepare();
  // Before the output is begun: a machine without the engine and bad queries must not leave anything behind.
  make_engine();
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    queries_hash_ = check_queries(inputs_, summary_.shape.own_threads, comm_);
  }
  open_output();
  try {
    if (!output_->is_published()) {
      plan_work();
      search_groups();
    }
  } catch (const comm::AgreedError& error) {
    log_.error("failed", {{"kind", to_string(error.kind())}, {"cause", error.what()}});
    output_->discard_if_empty();
    throw;
  }
  finish();
  return std::move(summary_);
}

void RangeJob::open_output() {
  const PhaseClock::Scope scope(clock_, Phase::write);
  output_ = std::make_unique<RangeOutput>(config_, inputs_, comm_);
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
  });
}

void RangeJob::plan_work() {
  groups_ = cut_range_work(summary_.shape.rows, summary_.plan.rows_per_group, summary_.shape.nq,
                           config_.range->pairs, output_->blocks());
  for (const RangeGroup& group : groups_)
    for (const io::Range queries : group.queries)
      pairs_total_ += static_cast<double>(size_of(group.rows)) * static_cast<double>(size_of(queries));
  piece_ = summary_.plan.batch;
  began_seconds_ = clock_.elapsed_seconds();
  std::string resumed;
  if (output_->resumes() > 0)
    resumed = std::to_string(output_->blocks().size()) + " blocks are found, " +
              std::to_string(groups_.size()) + " shard groups are left";
  comm::agree(comm_, [&] {
    if (comm_.is_root() && observer_.began) observer_.began(progress(), resumed);
  });
  if (output_->blocks().empty())
    choose_checked_queries();
  else
    summary_.warnings.emplace_back("continued: what earlier runs found has no fp64 self-check");
}

/// Draws the queries that are answered again in fp64, and gives them to every rank.
void RangeJob::choose_checked_queries() {
  std::vector<std::int64_t> rows = SelfChecker::choose(summary_.shape.nq, config_.self_check_queries);
  std::vector<std::int64_t> read_rows = rows;
  for (std::int64_t& row : read_rows) row += inputs_.query_rows.begin;
  Matrix sample = read_queries_everywhere(reader_.get(), read_rows, summary_.shape.d, comm_);
  checker_ = std::make_unique<RangeChecker>(config_.metric, *config_.range, summary_.shape.own_threads);
  checker_->begin(std::move(sample), std::move(rows));
}

void RangeJob::search_groups() {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    load_group(g);
    const RangeGroup& group = groups_[g];
    note_base_hash(group.rows);
    if (checker_) {
      const PhaseClock::Scope scope(clock_, Phase::other);
      checker_->observe(shard_.vectors.view(), shard_ids());
    }
    for (const io::Range queries : group.queries)
      for (std::int64_t begin = queries.begin; begin < queries.end; begin += summary_.plan.batch) {
        if (agree_on_stop(comm_) > 0) {
          summary_.stopped = true;
          return;
        }
        search_batch(group.rows, {begin, std::min(queries.end, begin + summary_.plan.batch)});
        if (summary_.stopped) return;
      }
    ++groups_done_;
  }
}

/// Makes a group's rows searchable, and begins to read the next ones.
void RangeJob::load_group(std::size_t g) {
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    comm::agree(comm_, [&] {
      index_->build({}, {});
      shard_ = Shard();
      if (g == 0) loader_->prefetch(shard_of(groups_[g].rows));
      shard_ = loader_->take();
      bytes_read_ += shard_.bytes_read;
      read_seconds_ += shard_.read_seconds;
      dropped_rows_ += shard_.dropped_rows;
      rows_searched_ += shard_.vectors.rows();
      if (g + 1 < groups_.size()) loader_->prefetch(shard_of(groups_[g + 1].rows));
      clock_.enter(Phase::wait);
    });
  }
  const PhaseClock::Scope scope(clock_, Phase::search);
  comm::agree(comm_, [&] { index_->build(shard_.vectors.view(), shard_ids()); });
  log_.info("loaded", {{"row_begin", shard_.rows.begin}, {"row_end", shard_.rows.end}});
}

/// Compares a group with what an earlier run saw of it.
void RangeJob::note_base_hash(io::Range rows) {
  const std::uint64_t hash = comm_.sum_wrapping(shard_.content_hash);
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    if (const auto known = output_->content_hash(hash_name(rows)); known && *known != hash)
      throw Error(ErrorKind::config,
                  "the base's contents changed since the run that is continued here; start over with "
                  "--no-resume");
    output_->record_content_hash(hash_name(rows), hash);
  });
}

RoutedBatch RangeJob::read_batch(io::Range batch) {
  Matrix queries;
  {
    const PhaseClock::Scope scope(clock_, Phase::read);
    comm::agree(comm_, [&] {
      if (!comm_.is_root()) return;
      const std::int64_t first = inputs_.query_rows.begin;
      QueryBatch read = reader_->take({first + batch.begin, first + batch.end});
      bytes_read_ += read.bytes_read;
      read_seconds_ += read.read_seconds;
      queries = std::move(read.queries);
    });
  }
  const PhaseClock::Scope scope(clock_, Phase::scatter);
  return distribute(comm_, std::move(queries), {}, {}, summary_.shape.d);
}

/// Searches a batch in as large pieces as memory has room for what they find.
void RangeJob::search_batch(io::Range rows, io::Range batch) {
  const RoutedBatch routed = read_batch(batch);
  const MatrixView<const float> queries = routed.queries.view().as<float>();
  for (std::int64_t begin = batch.begin; begin < batch.end;) {
    const io::Range piece{begin, std::min(batch.end, begin + piece_)};
    RangeHits hits;
    search_piece(rows, piece, queries.slice(piece.begin - batch.begin, piece.end - batch.begin), hits);
    const std::int64_t most = comm_.max(hits.nq() == 0 ? summary_.plan.max_hits + 1 : hits.count());
    if (most > summary_.plan.max_hits) {
      piece_ = std::max<std::int64_t>(1, size_of(piece) / 2);
      continue;
    }
    if (most < summary_.plan.max_hits / 4) piece_ = std::min(summary_.plan.batch, 2 * piece_);
    {
      const PhaseClock::Scope scope(clock_, Phase::write);
      output_->add_block(rows, piece, hits);
    }
    log_.info("finished", {{"query_begin", piece.begin}, {"query_end", piece.end}, {"hits", hits.count()}});
    pairs_done_ += static_cast<double>(size_of(rows)) * static_cast<double>(size_of(piece));
    begin = piece.end;
    report_progress();
    if (begin < batch.end && agree_on_stop(comm_) > 0) {
      summary_.stopped = true;
      return;
    }
  }
}

/// @param[out] hits  of no query where there are too many
void RangeJob::search_piece(io::Range rows, io::Range piece, MatrixView<const float> queries,
                            RangeHits& hits) {
  const PhaseClock::Scope scope(clock_, Phase::search);
  const kernels::RangeRequest request{.limit = config_.range->eps,
                                      .max_hits = summary_.plan.max_hits,
                                      .pairs = config_.range->pairs,
                                      .first_query = piece.begin};
  comm::agree(comm_, [&] {
    if (!index_->search_range(queries, request, hits)) {
      if (size_of(piece) == 1)
        throw Error(
            ErrorKind::config,
            "query " + std::to_string(piece.begin) + " has more than " + std::to_string(request.max_hits) +
                " rows within eps among base rows " + std::to_string(rows.begin) + ":" +
                std::to_string(rows.end) +
                ", which is all that --memory has room for; raise --memory or choose a stricter --eps");
      hits = RangeHits();
    }
    clock_.enter(Phase::wait);  // for the slowest rank
  });
}

Progress RangeJob::progress() const {
  Progress now;
  const double share = pairs_total_ > 0 ? pairs_done_ / pairs_total_ : 1;
  now.queries_total = summary_.shape.nq;
  now.queries_done = static_cast<std::int64_t>(share * static_cast<double>(summary_.shape.nq));
  now.groups_total = std::ssize(groups_);
  now.groups_done = static_cast<std::int64_t>(groups_done_);
  now.elapsed_seconds = clock_.elapsed_seconds();
  const double seconds = now.elapsed_seconds - began_seconds_;
  if (seconds > 0) now.queries_per_second = static_cast<double>(now.queries_done) / seconds;
  now.eta_seconds = share > 0 ? seconds * (1 - share) / share : std::numeric_limits<double>::quiet_NaN();
  return now;
}

void RangeJob::report_progress() {
  if (observer_.progress && comm_.is_root()) observer_.progress(progress());
}

/// Of all rows, as the groups saw them that the first query met.
std::uint64_t RangeJob::base_hash() const {
  std::uint64_t hash = 0;
  std::int64_t at = 0;
  for (const io::Journal::Block& block : output_->blocks()) {
    if (block.queries.begin != 0 || block.rows.begin != at) continue;
    hash += output_->content_hash(hash_name(block.rows)).value_or(0);
    at = block.rows.end;
  }
  return hash;
}

RankReport RangeJob::own_report() const {
  RankReport report;
  report.rank = comm_.rank();
  report.host = host_name();
  report.engine = index_->description();
  report.threads = summary_.shape.own_threads;
  report.rows = rows_searched_;
  report.bytes_read = bytes_read_;
  report.read_seconds = read_seconds_;
  report.peak_rss_bytes = peak_rss_bytes();
  report.phase_seconds = clock_.totals_seconds();
  report.spans = clock_.spans();
  report.roof_flops_per_second = roof_flops_per_second_;
  report.counters = index_->counters();
  return report;
}

void RangeJob::finish() {
  summary_.dropped_rows = comm_.sum(dropped_rows_);
  summary_.merge = "rows of all ranks";
  summary_.pure_read_seconds = comm_.max(read_seconds_);
  if (pairs_total_ > 0) summary_.queries_done = progress().queries_done;
  summary_.ranks = gather_reports(own_report(), comm_);
  for (const RankReport& rank : summary_.ranks) summary_.counters += rank.counters;
  summary_.result_paths = {config_.output};
  if (!summary_.stopped) publish();
  log_.info(summary_.stopped ? "stopped" : "published", {{"blocks", output_->blocks().size()}});
  // Once more, with publishing in it.
  summary_.wall_seconds = comm_.max(clock_.elapsed_seconds());
  summary_.ranks = gather_reports(own_report(), comm_);
}

void RangeJob::publish() {
  if (!output_->is_published()) {
    comm::agree(comm_, [&] {  // their memory is wanted for the joining
      index_->build({}, {});
      shard_ = Shard();
    });
    {
      const PhaseClock::Scope scope(clock_, Phase::merge);
      output_->assemble(config_.metric,
                        {.columns = inputs_.base->rows(), .has_clusters = config_.range->has_clusters},
                        std::max<std::int64_t>(1, summary_.shape.memory_bytes / 2 / kBytesPerJoinedEntry));
      if (config_.range->has_clusters)
        summary_.clusters = find_clusters(output_->matrix(), summary_.shape.memory_bytes, comm_);
    }
    if (checker_) {
      const PhaseClock::Scope scope(clock_, Phase::other);
      checker_->compare(comm_, output_->matrix(), summary_.self_check);
    }
  }
  const PhaseClock::Scope scope(clock_, Phase::write);
  io::Attributes attributes;
  if (comm_.is_root()) {
    const RunFacts facts{.base_hash = base_hash(),
                         .queries_hash = queries_hash_,
                         .engine = engine_name_,
                         .device = index_->description(),
                         .started = started_};
    attributes = result_attributes(config_, inputs_, summary_, facts);
  }
  output_->publish(attributes);
}

}  // namespace

SearchSummary run_range_job(const SearchJobConfig& config, const comm::Communicator& comm,
                            const JobObserver& observer) {
  return_freed_rows();
  comm.barrier();  // all clocks start together, so that the phases of every rank sum to the wall time
  return RangeJob(config, comm, observer).run();
}

}  // namespace mpishards::rank

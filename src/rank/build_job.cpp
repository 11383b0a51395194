#include "rank/build_job.hpp"

#include <omp.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <utility>

#include "comm/agree.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/narrow.hpp"
#include "core/timer.hpp"
#include "io/faiss_layout.hpp"
#include "io/index_directory.hpp"
#include "kernels/coded_ivf.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "rank/build_output.hpp"
#include "rank/codec_training.hpp"
#include "rank/faiss_index.hpp"
#include "rank/finite_rows.hpp"
#include "rank/first_failure.hpp"
#include "rank/freed_rows.hpp"
#include "rank/host_info.hpp"
#include "rank/inverted_lists.hpp"
#include "rank/job_attributes.hpp"
#include "rank/job_inputs.hpp"
#include "rank/kmeans.hpp"
#include "rank/list_placing.hpp"
#include "rank/rank_log.hpp"
#include "rank/rank_report.hpp"
#include "rank/row_hash.hpp"
#include "rank/shard_loader.hpp"
#include "rank/shard_map.hpp"
#include "rank/stop.hpp"
#include "rank/stored_rows.hpp"
#include "rank/training_sample.hpp"
#include "rank/unique_ids.hpp"

namespace mpishards::rank {

namespace {

/// Labels that are counted, and rows that are verified, at once.
constexpr std::int64_t kLabelsAtOnce = 1 << 18;
constexpr std::int64_t kVerifiedBytes = std::int64_t{8} << 20;
/// What a byte that is placed, or verified, costs in flops of the other steps; for the time left alone.
constexpr double kPlacedByteFlops = 60;
constexpr double kVerifiedByteFlops = 20;

std::int64_t size_of(io::Range range) {
  return range.end - range.begin;
}

std::int64_t total_size(const std::vector<io::Range>& ranges) {
  std::int64_t total = 0;
  for (const io::Range& range : ranges) total += size_of(range);
  return total;
}

/// Of all files in the folder.
std::int64_t index_bytes_of(const std::string& directory) {
  std::int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    bytes += narrow<std::int64_t>(entry.file_size());
  return bytes;
}

/// The part of some ranges that lies in one, cut into blocks.
std::vector<io::Range> cut(const std::vector<io::Range>& ranges, io::Range within, std::int64_t block) {
  std::vector<io::Range> blocks;
  for (const io::Range& range : ranges) {
    const std::int64_t end = std::min(range.end, within.end);
    for (std::int64_t begin = std::max(range.begin, within.begin); begin < end; begin += block)
      blocks.push_back({begin, std::min(end, begin + block)});
  }
  return blocks;
}

/// Rows whose ids are their numbers.
std::vector<GlobalId> numbers_from(std::int64_t first, std::int64_t count) {
  std::vector<GlobalId> ids(narrow<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

/// One object a run; every method that is named in run() is collective.
class BuildJob {
 public:
  BuildJob(const SearchJobConfig& config, const comm::Communicator& comm, const BuildObserver& observer)
      : config_(config), comm_(comm), observer_(observer), started_(utc_now()), start_(steady_seconds()) {}

  PreparedBuild prepare();
  BuildSummary run();

 private:
  void open_output();
  void build();
  template <class Work>
  void timed(BuildStep step, const Work& work);
  bool wants_stop();

  void take_lists();
  void train();
  void adopt_centroids();
  void make_assigner();
  void assign_rows();
  void assign_block(const Shard& shard);
  void begin_lists();
  void read_labels(std::int64_t first_row, std::span<std::int32_t> labels);
  template <class Visit>
  void for_each_labels(io::Range rows, const Visit& visit);
  void place_rows();
  std::vector<std::uint64_t> place_block(io::Range block);
  void check_base_unchanged();
  void train_codec();
  Matrix codec_sample();
  void adopt_codec();
  void encode_rows();
  std::uint64_t encode_block(io::Range places);
  void train_faiss();
  void train_faiss_on(Matrix mine);
  void share_trained_faiss();
  void index_shards();
  std::vector<std::uint64_t> index_some(std::span<const std::int64_t> shards);
  void verify();
  void verify_faiss();
  void verify_codes(io::Range mine);
  std::uint64_t verify_places(io::Range mine);
  void finish();
  void publish();
  io::IndexManifest manifest() const;
  void describe_faiss(const std::string& directory, io::IndexManifest& manifest) const;
  const std::string& files_directory() { return output_->files().directory(); }
  io::Attributes facts() const;
  RankReport own_report() const;

  void add_work(double flops);
  void inherit_work(double flops);
  Progress progress() const;

  io::Range own_rows() const { return summary_.shape.shards({0, summary_.shape.rows}).shard(comm_.rank()); }
  kernels::EngineOptions engine_options() const {
    return {.threads = summary_.shape.own_threads,
            .isa = config_.isa,
            .device = inputs_.device.device,
            .device_ranks = inputs_.device.ranks};
  }

  const SearchJobConfig& config_;
  const comm::Communicator& comm_;
  const BuildObserver& observer_;
  std::string started_;
  double start_;

  JobInputs inputs_;
  BuildSummary summary_;
  std::unique_ptr<BuildOutput> output_;
  RankLog log_;
  std::string engine_;
  Matrix centroids_;
  std::unique_ptr<kernels::Index> assigner_;
  std::vector<std::int64_t> starts_of_base_;  // of its lists, where it brings them along
  std::vector<std::int64_t> starts_;          // of the index's lists
  std::unique_ptr<ListPlacer> placer_;
  std::unique_ptr<kernels::Codec> codec_;
  std::vector<std::byte> trained_faiss_;  // without rows, as it is stored
  std::vector<io::IndexShard> shards_;
  std::int64_t bytes_read_ = 0;

  double work_total_ = 0;  // in flops
  double work_done_ = 0;
  double began_seconds_ = 0;
  double work_inherited_ = 0;  // of that, what earlier runs did
};

PreparedBuild BuildJob::prepare() {
  comm::agree(comm_, [&] {
    parse_index_spec(config_.index);
    if (comm_.is_root()) refuse_index_output(config_);
  });
  inputs_ = open_inputs(config_, comm_);
  summary_.warnings = inputs_.warnings;
  summary_.shape = shape_of(config_, inputs_, comm_, summary_.warnings);
  comm::agree(comm_, [&] {
    summary_.plan = plan_build(config_, summary_.shape);
    engine_ = kernels::resolve_engine(config_.engine);
  });
  std::ranges::copy(build_warnings(summary_.plan), std::back_inserter(summary_.warnings));
  return {summary_.shape, summary_.plan, summary_.warnings};
}

BuildSummary BuildJob::run() {
  const PreparedBuild prepared = prepare();
  comm::agree(comm_, [&] { log_ = RankLog(config_.log_folder, comm_.rank()); });
  log_.info("prepared", {{"rows", prepared.shape.rows}, {"d", prepared.shape.d}, {"index", config_.index}});
  if (observer_.prepared && comm_.is_root()) observer_.prepared(prepared);
  open_output();
  try {
    if (!output_->is_published()) build();
  } catch (const comm::AgreedError& error) {
    log_.error("failed", {{"kind", to_string(error.kind())}, {"cause", error.what()}});
    output_->discard_if_empty();
    throw;
  }
  finish();
  return std::move(summary_);
}

void BuildJob::open_output() {
  output_ = std::make_unique<BuildOutput>(config_, inputs_, summary_.plan.files, comm_);
  summary_.resumes = output_->resumes();
  if (comm_.is_root() && !output_->is_locked())
    summary_.warnings.push_back("the file system of " + config_.output +
                                " has no locks: nothing keeps a second job from writing it");
  const auto bytes = static_cast<double>(summary_.shape.rows * summary_.plan.files.row_bytes());
  work_total_ = summary_.plan.training_flops + summary_.plan.assignment_flops + summary_.plan.codec_flops +
                summary_.plan.encoding_flops + summary_.plan.indexing_flops +
                bytes * (kPlacedByteFlops + kVerifiedByteFlops);
  began_seconds_ = steady_seconds();
  comm::agree(comm_, [&] {
    if (comm_.is_root() && observer_.began) observer_.began(progress(), output_->resumed_text());
  });
}

void BuildJob::build() {
  if (config_.build->imports && inputs_.base->has_ids())
    require_unique_ids(*inputs_.base, summary_.shape.memory_bytes, comm_);
  if (summary_.plan.takes_lists) {
    take_lists();
  } else if (summary_.plan.spec.has_lists()) {
    timed(BuildStep::training, [&] { train(); });
    if (summary_.stopped) return;
    timed(BuildStep::assignment, [&] { assign_rows(); });
    if (summary_.stopped) return;
  }
  if (summary_.plan.spec.is_faiss()) {
    timed(BuildStep::training, [&] { train_faiss(); });
    if (summary_.stopped) return;
  }
  timed(BuildStep::placing, [&] { place_rows(); });
  if (summary_.stopped) return;
  if (summary_.plan.spec.is_faiss()) {
    timed(BuildStep::indexing, [&] { index_shards(); });
    if (summary_.stopped) return;
  }
  if (summary_.plan.files.has_codes()) {
    timed(BuildStep::encoding, [&] {
      train_codec();
      if (!summary_.stopped) encode_rows();
    });
    if (summary_.stopped) return;
  }
  timed(BuildStep::verifying, [&] { verify(); });
}

template <class Work>
void BuildJob::timed(BuildStep step, const Work& work) {
  const double start = steady_seconds();
  work();
  const double seconds = comm_.max(steady_seconds() - start);
  summary_.step_seconds[static_cast<std::size_t>(step)] = seconds;
  log_.info(to_string(step), {{"seconds", seconds}, {"stopped", summary_.stopped}});
}

bool BuildJob::wants_stop() {
  summary_.stopped = agree_on_stop(comm_) > 0;
  return summary_.stopped;
}

// --- centroids
// --------------------------------------------------------------------------------------------------------

/// Instead of training and assignment: every rank learns where the lists of the base begin.
void BuildJob::take_lists() {
  comm::agree(comm_, [&] {
    const std::string& path = config_.base.front().path;
    const io::FaissLayout layout = io::read_faiss_layout(path);
    starts_of_base_ = layout.starts;
    if (!comm_.is_root()) return;
    output_->files().write_centroids(io::read_faiss_lists(path, layout).centroids.view().as<float>());
    output_->files().sync();
  });
}

void BuildJob::train() {
  const BuildPlan& plan = summary_.plan;
  if (output_->unfinished(kTrained, plan.training_rows).empty()) return adopt_centroids();
  const TrainingSample sample(summary_.shape.rows, plan.training_rows);
  Matrix rows;
  comm::agree(comm_, [&] {
    rows = read_sample(*inputs_.base, sample, sample.within(own_rows()), config_.metric,
                       summary_.shape.own_threads);
    bytes_read_ += rows.rows() * plan.files.row_bytes();
  });
  const KMeansConfig kmeans = {.nlist = plan.spec.nlist,
                               .iterations = plan.iterations,
                               .metric = config_.metric,
                               .engine = engine_,
                               .options = engine_options()};
  const double flops = plan.training_flops / static_cast<double>(std::max<std::int64_t>(1, plan.iterations));
  std::optional<Matrix> trained = train_centroids(std::move(rows), kmeans, comm_, [&] { add_work(flops); });
  summary_.stopped = !trained;
  if (!trained) return;
  centroids_ = std::move(*trained);
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    output_->files().write_centroids(std::as_const(centroids_).view().as<float>());
    output_->files().sync();
  });
  const io::Range all = comm_.is_root() ? io::Range{0, plan.training_rows} : io::Range{};
  output_->record(kTrained, all, {hash_rows(centroids_.view(), 0)});
}

void BuildJob::adopt_centroids() {
  comm::agree(comm_, [&] {
    centroids_ = output_->files().read_centroids();
    if (hash_rows(centroids_.view(), 0) != output_->hashes(kTrained).at(0))
      throw Error(ErrorKind::data, io::lists_path(output_->files().directory()) +
                                       " does not hold the centroids that the journal speaks of; "
                                       "--no-resume starts over");
  });
  inherit_work(summary_.plan.training_flops);
}

// --- lists
// ------------------------------------------------------------------------------------------------------------

void BuildJob::make_assigner() {
  comm::agree(comm_, [&] {
    assigner_ = kernels::make_index("flat", engine_, probing_metric(config_.metric), engine_options());
    assigner_->build(centroids_.view(), {});
  });
}

void BuildJob::assign_rows() {
  make_assigner();
  const std::vector<io::Range> missing = output_->unfinished(kAssigned, summary_.shape.rows);
  const std::vector<io::Range> blocks = cut(missing, own_rows(), summary_.plan.assign_block);
  const double flops_a_row = summary_.plan.assignment_flops / static_cast<double>(summary_.shape.rows);
  inherit_work(flops_a_row * static_cast<double>(summary_.shape.rows - total_size(missing)));

  ShardLoader loader(*inputs_.base, false, summary_.shape.own_threads);
  if (!blocks.empty()) loader.prefetch(blocks.front());
  const auto rounds = static_cast<std::size_t>(comm_.max(std::ssize(blocks)));
  for (std::size_t b = 0; b < rounds; ++b) {
    if (wants_stop()) return;
    const io::Range block = b < blocks.size() ? blocks[b] : io::Range{};
    std::uint64_t hash = 0;
    comm::agree(comm_, [&] {
      if (size_of(block) == 0) return;
      const Shard shard = loader.take();
      if (b + 1 < blocks.size()) loader.prefetch(blocks[b + 1]);
      hash = shard.content_hash;
      bytes_read_ += shard.bytes_read;
      assign_block(shard);
    });
    output_->record(kAssigned, block, {hash});
    add_work(flops_a_row * static_cast<double>(comm_.sum(size_of(block))));
  }
  assigner_.reset();
}

/// Labels go to disk at once: memory holds those of a block.
void BuildJob::assign_block(const Shard& shard) {
  const TypedView rows = shard.vectors.view();
  std::vector<std::int32_t> labels(narrow<std::size_t>(rows.rows));
  Matrix widened;
  for (std::int64_t begin = 0; begin < rows.rows; begin += kAssignPiece) {
    const std::int64_t end = std::min(rows.rows, begin + kAssignPiece);
    MatrixView<const float> piece{reinterpret_cast<const float*>(rows.row(begin)), end - begin, rows.cols};
    if (rows.dtype != DType::f32) {
      widened = Matrix(DType::f32, end - begin, rows.cols);
      to_float32(rows.dtype, rows.row(begin), (end - begin) * rows.cols, widened.as<float>().data);
      piece = widened.view().as<float>();
    }
    assign_to_centroids(*assigner_, probing_metric(config_.metric), piece, labels.data() + begin);
  }
  output_->files().write_labels(shard.rows.begin, labels);
  output_->files().sync();
}

/// Counts all ranks' labels: where the lists begin, and where this rank's rows begin in each.
void BuildJob::begin_lists() {
  std::vector<std::int64_t> counts(narrow<std::size_t>(summary_.plan.spec.nlist));
  comm::agree(comm_, [&] {
    for_each_labels(own_rows(), [&](std::span<const std::int32_t> labels) { count_labels(labels, counts); });
  });
  std::vector<std::int64_t> next = comm_.sum_each_before(counts);
  comm_.sum_each(counts);
  starts_ = list_starts(counts);
  std::transform(next.begin(), next.end(), starts_.begin(), next.begin(), std::plus<>());
  comm::agree(comm_, [&] {
    placer_ = std::make_unique<ListPlacer>(output_->files(), std::move(next));
    if (!comm_.is_root()) return;
    output_->files().write_starts(starts_);
    output_->files().sync();
  });
}

/// The labels of rows that follow each other; zeros where there is one list alone.
void BuildJob::read_labels(std::int64_t first_row, std::span<std::int32_t> labels) {
  if (!summary_.plan.spec.has_lists()) {
    std::ranges::fill(labels, 0);
    return;
  }
  if (!summary_.plan.takes_lists) return output_->files().read_labels(first_row, labels);
  auto next = std::ranges::upper_bound(starts_of_base_, first_row);
  for (std::int32_t& label : labels) {
    while (*next == first_row) ++next;
    label = narrow<std::int32_t>(next - starts_of_base_.begin() - 1);
    ++first_row;
  }
}

/// The labels of some rows, piece by piece.
template <class Visit>
void BuildJob::for_each_labels(io::Range rows, const Visit& visit) {
  std::vector<std::int32_t> labels;
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += kLabelsAtOnce) {
    labels.resize(narrow<std::size_t>(std::min(rows.end - begin, kLabelsAtOnce)));
    read_labels(begin, labels);
    visit(labels);
  }
}

void BuildJob::place_rows() {
  begin_lists();
  const std::vector<io::Range> missing = output_->unfinished(kPlaced, summary_.shape.rows);
  const std::vector<io::Range> blocks = cut(missing, own_rows(), summary_.plan.place_block);
  const double flops_a_row = static_cast<double>(summary_.plan.files.row_bytes()) * kPlacedByteFlops;
  inherit_work(flops_a_row * static_cast<double>(summary_.shape.rows - total_size(missing)));
  std::int64_t at = own_rows().begin;  // the first row that is neither placed nor passed over
  const auto rounds = static_cast<std::size_t>(comm_.max(std::ssize(blocks)));
  for (std::size_t b = 0; b < rounds; ++b) {
    if (wants_stop()) return;
    const io::Range block = b < blocks.size() ? blocks[b] : io::Range{};
    std::vector<std::uint64_t> hashes(2);
    comm::agree(comm_, [&] {
      if (size_of(block) == 0) return;
      for_each_labels({at, block.begin},
                      [&](std::span<const std::int32_t> labels) { placer_->skip(labels); });
      hashes = place_block(block);
      at = block.end;
    });
    output_->record(kPlaced, block, hashes);
    add_work(flops_a_row * static_cast<double>(comm_.sum(size_of(block))));
  }
  placer_.reset();
  check_base_unchanged();
}

/// @return the rows' hashes by number and by id
std::vector<std::uint64_t> BuildJob::place_block(io::Range block) {
  const StoredRows stored = read_stored_rows(*inputs_.base, block, summary_.shape.own_threads);
  const Matrix& rows = stored.rows;
  bytes_read_ += static_cast<std::int64_t>(rows.bytes());
  if (stored.bad_row) refuse_nonfinite(*inputs_.base, block.begin + *stored.bad_row);
  std::vector<GlobalId> ids = numbers_from(block.begin, size_of(block));
  const std::uint64_t by_number = stored.content_hash;
  std::uint64_t by_id = by_number;
  if (inputs_.base->has_ids()) {
    inputs_.base->read_ids(block.begin, block.end, ids);
    by_id = hash_rows(rows.view(), ids);
  }
  std::vector<std::int32_t> labels(ids.size());
  read_labels(block.begin, labels);
  placer_->place(rows.view(), ids, labels);
  output_->files().sync();
  return {by_number, by_id};
}

void BuildJob::check_base_unchanged() {
  if (!summary_.plan.spec.has_lists() || summary_.plan.takes_lists) return;  // it was read once
  comm::agree(comm_, [&] {
    if (output_->hashes(kAssigned).at(0) != output_->hashes(kPlaced).at(0))
      throw Error(ErrorKind::config,
                  "the base's contents changed while the index was built; start over with --no-resume");
  });
}

// --- codes
// ------------------------------------------------------------------------------------------------------------

void BuildJob::train_codec() {
  const BuildPlan& plan = summary_.plan;
  if (output_->unfinished(kCodec, plan.codec_rows).empty()) return adopt_codec();
  const kernels::CodecShape shape = parse_codec(plan.spec.codec);
  const KMeansConfig means = {.iterations = plan.iterations, .engine = engine_, .options = engine_options()};
  const Matrix sample = codec_sample();
  const double flops = plan.codec_flops / static_cast<double>(std::max<std::int64_t>(1, shape.parts));
  std::optional<Matrix> parameters = rank::train_codec(shape, sample, means, comm_, [&] { add_work(flops); });
  summary_.stopped = !parameters;
  if (!parameters) return;
  const std::uint64_t hash = hash_rows(parameters->view(), 0);
  comm::agree(comm_, [&] {
    if (comm_.is_root()) {
      output_->files().write_codec(std::as_const(*parameters).view().as<float>());
      output_->files().sync();
    }
    codec_ = kernels::make_codec(shape, std::move(*parameters), config_.isa);
  });
  output_->record(kCodec, comm_.is_root() ? io::Range{0, plan.codec_rows} : io::Range{}, {hash});
}

/// This rank's rows of the sample, as they are coded.
Matrix BuildJob::codec_sample() {
  Matrix rows;
  if (kernels::codes_differences(config_.metric)) make_assigner();
  comm::agree(comm_, [&] {
    const TrainingSample sample(summary_.shape.rows, summary_.plan.codec_rows);
    rows = read_sample(*inputs_.base, sample, sample.within(own_rows()), config_.metric,
                       summary_.shape.own_threads);
    bytes_read_ += rows.rows() * summary_.plan.files.row_bytes();
    if (!assigner_) return;
    std::vector<std::int32_t> labels(narrow<std::size_t>(rows.rows()));
    assign_to_centroids(*assigner_, probing_metric(config_.metric), rows.view().as<float>(), labels.data());
    for (std::int64_t r = 0; r < rows.rows(); ++r)
      kernels::prepare_for_code(config_.metric, centroids_.as<float>().row(labels[narrow<std::size_t>(r)]),
                                rows.as<float>().row(r), rows.cols());
  });
  assigner_.reset();
  return rows;
}

void BuildJob::adopt_codec() {
  comm::agree(comm_, [&] {
    Matrix parameters = output_->files().read_codec();
    if (hash_rows(parameters.view(), 0) != output_->hashes(kCodec).at(0))
      throw Error(ErrorKind::data, io::lists_path(output_->files().directory()) +
                                       " does not hold the codec that the journal speaks of; "
                                       "--no-resume starts over");
    codec_ = kernels::make_codec(parse_codec(summary_.plan.spec.codec), std::move(parameters), config_.isa);
  });
  inherit_work(summary_.plan.codec_flops);
}

void BuildJob::encode_rows() {
  const std::vector<io::Range> missing = output_->unfinished(kEncoded, summary_.shape.rows);
  const std::vector<io::Range> blocks = cut(missing, own_rows(), summary_.plan.encode_block);
  const double flops_a_row = summary_.plan.encoding_flops / static_cast<double>(summary_.shape.rows);
  inherit_work(flops_a_row * static_cast<double>(summary_.shape.rows - total_size(missing)));
  const auto rounds = static_cast<std::size_t>(comm_.max(std::ssize(blocks)));
  for (std::size_t b = 0; b < rounds; ++b) {
    if (wants_stop()) return;
    const io::Range block = b < blocks.size() ? blocks[b] : io::Range{};
    std::uint64_t hash = 0;
    comm::agree(comm_, [&] { hash = encode_block(block); });
    output_->record(kEncoded, block, {hash});
    add_work(flops_a_row * static_cast<double>(comm_.sum(size_of(block))));
  }
}

/// @return hash of the codes by place
std::uint64_t BuildJob::encode_block(io::Range places) {
  if (size_of(places) == 0) return 0;
  const std::int64_t d = summary_.shape.d;
  Matrix rows(summary_.shape.dtype, size_of(places), d);
  std::vector<GlobalId> ids(narrow<std::size_t>(size_of(places)));
  output_->files().read_rows(places.begin, rows.data(), ids);
  Matrix codes(DType::u8, size_of(places), codec_->code_bytes());
  const TypedView stored = rows.view();
  const MatrixView<const float> centroids = std::as_const(centroids_).view().as<float>();
  Matrix floats(DType::f32, summary_.shape.own_threads, d);
#pragma omp parallel num_threads(summary_.shape.own_threads)
  {
    const kernels::cpu::DefaultFloatEnvironment environment;
    float* const row = floats.as<float>().row(omp_get_thread_num());
#pragma omp for
    for (std::int64_t r = 0; r < stored.rows; ++r) {
      const auto list =
          std::upper_bound(starts_.begin(), starts_.end(), places.begin + r) - starts_.begin() - 1;
      to_float32(stored.dtype, stored.row(r), d, row);
      kernels::prepare_for_code(config_.metric, centroids.row(list), row, d);
      codec_->encode(row, codes.data() + r * codes.cols());
    }
  }
  output_->files().write_codes(places.begin, {codes.data(), codes.bytes()});
  output_->files().sync();
  return hash_rows(codes.view(), places.begin);
}

// --- FAISS
// ------------------------------------------------------------------------------------------------------------

void BuildJob::train_faiss() {
  const BuildPlan& plan = summary_.plan;
  if (!output_->unfinished(kTrained, std::max<std::int64_t>(1, plan.training_rows)).empty()) {
    Matrix mine;
    comm::agree(comm_, [&] {
      if (plan.training_rows == 0) return;
      const TrainingSample sample(summary_.shape.rows, plan.training_rows);
      mine = read_sample(*inputs_.base, sample, sample.within(own_rows()), config_.metric,
                         summary_.shape.own_threads);
      bytes_read_ += mine.rows() * plan.files.row_bytes();
    });
    try {
      train_faiss_on(std::move(mine));
    } catch (const comm::AgreedError& error) {
      summary_.stopped = error.kind() == ErrorKind::stopped;
      if (!summary_.stopped) throw;
      return;
    }
    add_work(plan.training_flops);
  } else {
    inherit_work(plan.training_flops);
  }
  share_trained_faiss();
}

/// The same quantisers for every shard: root trains. One without training is stored as it is.
void BuildJob::train_faiss_on(Matrix mine) {
  const BuildPlan& plan = summary_.plan;
  const std::vector<std::int64_t> counts = comm_.all_gather(mine.rows());
  Matrix all;
  comm::agree(comm_, [&] {
    if (comm_.is_root()) all = Matrix(DType::f32, plan.training_rows, summary_.shape.d);
  });
  comm_.gather_rows(mine.data(), counts, mine.view().row_bytes(), all.data(), all.rows());
  mine = Matrix();
  const std::string path = io::trained_path(output_->files().directory());
  std::uint64_t hash = 0;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    FaissIndex index = FaissIndex::create(plan.spec.factory, summary_.shape.d, config_.metric);
    if (all.rows() > 0) index.train(std::as_const(all).view().as<float>());
    index.write(path);
    hash = io::hash_file(path);
  });
  const io::Range done = {0, std::max<std::int64_t>(1, plan.training_rows)};
  output_->record(kTrained, comm_.is_root() ? done : io::Range{}, {hash});
}

void BuildJob::share_trained_faiss() {
  std::string bytes;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    const std::string path = io::trained_path(output_->files().directory());
    if (!io::exists(path) || io::hash_file(path) != output_->hashes(kTrained).at(0))
      throw Error(ErrorKind::data,
                  path + " is not what the journal says was trained; --no-resume starts over");
    bytes = io::read_text(path);
  });
  comm_.broadcast_text(bytes);
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  trained_faiss_.assign(data, data + bytes.size());
}

/// Each shard is built by one thread, so that its bytes depend on its rows alone.
void BuildJob::index_shards() {
  const std::int64_t n_shards = summary_.plan.files.n_shards;
  std::vector<std::int64_t> missing;
  for (const io::Range& range : output_->unfinished(kIndexed, n_shards))
    for (std::int64_t s = range.begin; s < range.end; ++s) missing.push_back(s);
  const double flops_a_shard = summary_.plan.indexing_flops / static_cast<double>(n_shards);
  inherit_work(flops_a_shard * static_cast<double>(n_shards - std::ssize(missing)));
  const io::Range mine = ShardMap({0, std::ssize(missing)}, comm_.size()).shard(comm_.rank());
  const std::int64_t at_once = summary_.plan.builders;
  const std::int64_t rounds = comm_.max((size_of(mine) + at_once - 1) / at_once);
  for (std::int64_t round = 0; round < rounds; ++round) {
    if (wants_stop()) return;
    const std::int64_t begin = std::min(mine.end, mine.begin + round * at_once);
    const std::int64_t count = std::min(at_once, mine.end - begin);
    const auto shards = std::span(missing).subspan(narrow<std::size_t>(begin), narrow<std::size_t>(count));
    std::vector<std::uint64_t> hashes;
    comm::agree(comm_, [&] { hashes = index_some(shards); });
    for (std::int64_t i = 0; i < at_once; ++i) {  // those that a stop left unbuilt are no longer there
      const bool is_built = i < std::ssize(hashes);
      const std::int64_t s = is_built ? shards[narrow<std::size_t>(i)] : 0;
      output_->record(kIndexed, is_built ? io::Range{s, s + 1} : io::Range{},
                      {is_built ? hashes[narrow<std::size_t>(i)] : 0});
    }
    add_work(flops_a_shard * static_cast<double>(comm_.sum(std::ssize(hashes))));
  }
  wants_stop();
}

/// Builds some shards at the same time. @return the hashes of their files, up to the first that a stop left
/// unbuilt
std::vector<std::uint64_t> BuildJob::index_some(std::span<const std::int64_t> shards) {
  const io::IndexShape& files = summary_.plan.files;
  std::vector<Matrix> rows;
  for (const std::int64_t s : shards) {
    const io::Range places = files.shard(s);
    Matrix stored(files.dtype, size_of(places), files.d);
    std::vector<GlobalId> ids(narrow<std::size_t>(size_of(places)));
    output_->files().read_rows(places.begin, stored.data(), ids);
    rows.push_back(prepare_for_faiss(stored.view(), config_.metric));
  }
  output_->files().sync();
  std::vector<std::uint64_t> hashes(shards.size());
  std::vector<char> is_built(shards.size(), 0);
  FirstFailure failure;
#pragma omp parallel for num_threads(narrow <int>(summary_.plan.builders)) schedule(static, 1)
  for (std::size_t i = 0; i < shards.size(); ++i)
    failure.guard([&] {
      const std::string path = io::faiss_path(files_directory(), shards[i]);
      try {
        FaissIndex index = FaissIndex::from_bytes(trained_faiss_, summary_.plan.spec.factory, config_.metric);
        index.add(std::as_const(rows[i]).view().as<float>());
        index.write(path);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::stopped) throw;
        return;
      }
      hashes[i] = io::hash_file(path);
      is_built[i] = 1;
    });
  failure.rethrow();
  hashes.resize(narrow<std::size_t>(std::ranges::find(is_built, 0) - is_built.begin()));
  return hashes;
}

// --- verifying
// --------------------------------------------------------------------------------------------------------

/// Reads what lies on disk: every row of the base must be there, once.
void BuildJob::verify() {
  const io::IndexShape& files = summary_.plan.files;
  shards_.clear();
  for (std::int64_t s = 0; s < files.n_shards; ++s) {
    const io::Range places = files.shard(s);
    shards_.push_back({.file = io::shard_file_name(s), .first_row = places.begin, .rows = size_of(places)});
  }
  std::uint64_t by_id = 0;
  comm::agree(comm_, [&] {
    by_id = verify_places(own_rows());
    if (files.has_codes()) verify_codes(own_rows());
    if (summary_.plan.spec.is_faiss()) verify_faiss();
  });
  by_id = comm_.sum_wrapping(by_id);
  std::uint64_t codes_hash = 0;
  std::uint64_t faiss_hash = 0;
  for (io::IndexShard& shard : shards_) {
    shard.vectors_hash = comm_.sum_wrapping(shard.vectors_hash);
    shard.ids_hash = comm_.sum_wrapping(shard.ids_hash);
    shard.codes_hash = comm_.sum_wrapping(shard.codes_hash);
    shard.faiss_hash = comm_.sum_wrapping(shard.faiss_hash);
    codes_hash += shard.codes_hash;
    faiss_hash += shard.faiss_hash;
  }
  comm::agree(comm_, [&] {
    if (by_id != output_->hashes(kPlaced).at(1) ||
        (files.has_codes() && codes_hash != output_->hashes(kEncoded).at(0)) ||
        (summary_.plan.spec.is_faiss() && faiss_hash != output_->hashes(kIndexed).at(0)))
      throw Error(ErrorKind::io, output_->files().directory() +
                                     " does not hold the rows that were written to it; look at the disk, "
                                     "and start over with --no-resume");
  });
  add_work(static_cast<double>(files.rows * files.row_bytes()) * kVerifiedByteFlops);
}

/// Adds this rank's places to the hashes of their shards. @return their rows' hash by id
std::uint64_t BuildJob::verify_places(io::Range mine) {
  std::uint64_t by_id = 0;
  const std::int64_t block = std::max<std::int64_t>(1, kVerifiedBytes / summary_.plan.files.row_bytes());
  Matrix rows(summary_.shape.dtype, std::min(block, size_of(mine)), summary_.shape.d);
  std::vector<GlobalId> ids;
  for (io::IndexShard& shard : shards_)
    for (const io::Range places : cut({{shard.first_row, shard.first_row + shard.rows}}, mine, block)) {
      ids.resize(narrow<std::size_t>(size_of(places)));
      const TypedView view{rows.dtype(), rows.data(), size_of(places), rows.cols()};
      output_->files().read_rows(places.begin, rows.data(), ids);
      shard.vectors_hash += hash_rows(view, places.begin);
      shard.ids_hash += hash_ids(ids, places.begin);
      by_id += hash_rows(view, ids);
    }
  return by_id;
}

/// Reads this rank's share of the files that FAISS' indexes lie in.
void BuildJob::verify_faiss() {
  const io::Range mine = ShardMap({0, std::ssize(shards_)}, comm_.size()).shard(comm_.rank());
  for (std::int64_t s = mine.begin; s < mine.end; ++s)
    shards_[narrow<std::size_t>(s)].faiss_hash = io::hash_file(io::faiss_path(files_directory(), s));
}

/// Adds the codes of this rank's places to the hashes of their shards.
void BuildJob::verify_codes(io::Range mine) {
  const std::int64_t bytes = summary_.plan.files.codes.code_bytes;
  const std::int64_t block = std::max<std::int64_t>(1, kVerifiedBytes / bytes);
  Matrix codes(DType::u8, std::min(block, size_of(mine)), bytes);
  for (io::IndexShard& shard : shards_)
    for (const io::Range places : cut({{shard.first_row, shard.first_row + shard.rows}}, mine, block)) {
      const TypedView view{DType::u8, codes.data(), size_of(places), bytes};
      output_->files().read_codes(places.begin, {codes.data(), narrow<std::size_t>(view.rows * bytes)});
      shard.codes_hash += hash_rows(view, places.begin);
    }
}

// --- the end
// ----------------------------------------------------------------------------------------------------------

io::Attributes BuildJob::facts() const {
  io::Attributes facts = origin_attributes(config_, started_);
  facts["base_rows"] = summary_.shape.rows;
  facts["base_content_hash"] = hex(output_->hashes(kPlaced).at(0));
  facts["n_ranks"] = std::int64_t{summary_.shape.n_ranks};
  facts["hosts"] = hosts_of(summary_.ranks);
  facts["resumes"] = std::int64_t{summary_.resumes};
  // Nobody knows how long the run took that is continued.
  if (summary_.resumes == 0) facts["build_seconds"] = steady_seconds() - start_;
  if (summary_.plan.takes_lists) facts["lists_from"] = config_.base.front().path;
  if (summary_.plan.training_rows == 0) return facts;
  facts["training_rows"] = summary_.plan.training_rows;
  facts["training_seed"] = static_cast<std::int64_t>(TrainingSample::kSeed);
  if (summary_.plan.iterations > 0) facts["iterations"] = summary_.plan.iterations;
  if (summary_.plan.codec_rows > 0) facts["codec_training_rows"] = summary_.plan.codec_rows;
  return facts;
}

io::IndexManifest BuildJob::manifest() const {
  const io::IndexShape& files = summary_.plan.files;
  const std::string& directory = output_->files().directory();
  io::IndexManifest manifest{.type = summary_.plan.spec.type,
                             .metric = config_.metric,
                             .rows = files.rows,
                             .d = files.d,
                             .dtype = files.dtype,
                             .nlist = files.nlist,
                             .codes = files.codes,
                             .shards = shards_,
                             .lists_hash = io::hash_file(io::lists_path(directory)),
                             .facts = facts()};
  for (io::IndexShard& shard : manifest.shards)
    shard.size_bytes = io::File::open_read(directory + "/" + shard.file).size_bytes();
  if (summary_.plan.spec.is_faiss()) describe_faiss(directory, manifest);
  return manifest;
}

/// What a search has to know of FAISS' indexes before it loads them.
void BuildJob::describe_faiss(const std::string& directory, io::IndexManifest& manifest) const {
  const FaissTraits traits =
      FaissIndex::from_bytes(trained_faiss_, summary_.plan.spec.factory, config_.metric).traits();
  manifest.faiss = {.factory = summary_.plan.spec.factory,
                    .parameter = traits.parameter,
                    .most = traits.parameter.empty() || traits.most > 0 ? traits.most : manifest.rows,
                    .table_bytes = traits.table_bytes};
  for (std::size_t s = 0; s < manifest.shards.size(); ++s)
    manifest.shards[s].faiss_bytes =
        io::File::open_read(io::faiss_path(directory, narrow<std::int64_t>(s))).size_bytes();
}

void BuildJob::publish() {
  io::IndexManifest published;
  comm::agree(comm_, [&] {
    if (comm_.is_root() && !output_->is_published()) published = manifest();
  });
  output_->publish(published);
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    published = io::read_index(config_.output);
    summary_.lists = list_statistics(io::read_lists(config_.output, published).starts);
    summary_.index_bytes = index_bytes_of(config_.output);
  });
}

RankReport BuildJob::own_report() const {
  RankReport report;
  report.rank = comm_.rank();
  report.host = host_name();
  report.engine = engine_;
  report.threads = summary_.shape.own_threads;
  report.rows = size_of(own_rows());
  report.bytes_read = bytes_read_;
  report.peak_rss_bytes = peak_rss_bytes();
  return report;
}

void BuildJob::finish() {
  summary_.ranks = gather_reports(own_report(), comm_);
  if (!summary_.stopped) publish();
  summary_.wall_seconds = comm_.max(steady_seconds() - start_);
  log_.info(summary_.stopped ? "stopped" : "published", {{"seconds", summary_.wall_seconds}});
}

// --- progress
// ---------------------------------------------------------------------------------------------------------

void BuildJob::add_work(double flops) {
  work_done_ += flops;
  if (observer_.progress && comm_.is_root()) observer_.progress(progress());
}

/// What an earlier run did says nothing about this one's speed.
void BuildJob::inherit_work(double flops) {
  work_inherited_ += flops;
  if (flops > 0) add_work(flops);
}

Progress BuildJob::progress() const {
  Progress now;
  now.unit = "rows";
  const double share = work_total_ > 0 ? std::min(1.0, work_done_ / work_total_) : 1;
  now.queries_total = summary_.shape.rows;
  now.queries_done = static_cast<std::int64_t>(share * static_cast<double>(summary_.shape.rows));
  now.elapsed_seconds = steady_seconds() - start_;
  const double seconds = steady_seconds() - began_seconds_;
  const double work = work_done_ - work_inherited_;
  if (seconds > 0)
    now.queries_per_second = work / work_total_ * static_cast<double>(summary_.shape.rows) / seconds;
  now.eta_seconds =
      work > 0 ? seconds * (work_total_ - work_done_) / work : std::numeric_limits<double>::quiet_NaN();
  return now;
}

}  // namespace

std::string_view to_string(BuildStep step) {
  constexpr std::array<std::string_view, kBuildSteps> kNames = {"training", "assignment", "placing",
                                                                "encoding", "indexing",   "verifying"};
  return kNames[static_cast<std::size_t>(step)];
}

ListStatistics list_statistics(const std::vector<std::int64_t>& starts) {
  std::vector<std::int64_t> sizes;
  double squares = 0;
  for (std::size_t l = 0; l + 1 < starts.size(); ++l) {
    sizes.push_back(starts[l + 1] - starts[l]);
    squares += static_cast<double>(sizes.back()) * static_cast<double>(sizes.back());
  }
  std::ranges::sort(sizes);
  const auto rows = static_cast<double>(starts.back());
  return {.smallest = sizes.front(),
          .median = sizes[sizes.size() / 2],
          .largest = sizes.back(),
          .imbalance = rows > 0 ? squares * static_cast<double>(sizes.size()) / (rows * rows) : 1};
}

PreparedBuild prepare_build_job(const SearchJobConfig& config, const comm::Communicator& comm) {
  const BuildObserver nobody;
  return BuildJob(config, comm, nobody).prepare();
}

BuildSummary run_build_job(const SearchJobConfig& config, const comm::Communicator& comm,
                           const BuildObserver& observer) {
  return_freed_rows();
  comm.barrier();  // all clocks start together
  return BuildJob(config, comm, observer).run();
}

}  // namespace mpishards::rank

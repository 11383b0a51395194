#include "rank/build_plan.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "core/error.hpp"
#include "kernels/search_plan.hpp"
#include "rank/codec_training.hpp"
#include "rank/faiss_index.hpp"
#include "rank/kmeans.hpp"
#include "rank/list_placing.hpp"

namespace mpishards::rank {

namespace {

constexpr double kBlockFlops = 2e11;  // some seconds on one CPU rank: progress and stops stay prompt
constexpr std::int64_t kMinBlock = 4096;
constexpr std::int64_t kMaxBlockBytes = std::int64_t{1} << 30;  // more of it makes writes no longer
// Larger blocks make longer runs on disk, but a stop waits for the block: some seconds at a usual disk's
// rate.
constexpr std::int64_t kMaxPlacedBytes = std::int64_t{4} << 30;
constexpr std::int64_t kIdBytes = 8;
constexpr std::int64_t kLabelBytes = 4;
constexpr std::int64_t kOrderBytes = 8;    // a row's place among those of its block
constexpr std::int64_t kAnswerBytes = 12;  // of one row to one centroid: its number and a distance

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t sum_bytes(const std::vector<MemoryItem>& items) {
  return std::accumulate(items.begin(), items.end(), std::int64_t{0},
                         [](std::int64_t sum, const MemoryItem& item) { return sum + item.bytes; });
}

std::int64_t value_bytes(DType dtype) {
  return static_cast<std::int64_t>(size_bytes(dtype));
}

std::int64_t choose_shards(const IndexBuild& build, const io::IndexShape& files) {
  if (build.shards > files.rows)
    throw Error(ErrorKind::usage, "--shards " + std::to_string(build.shards) + ", but there are only " +
                                      std::to_string(files.rows) + " rows; name fewer shards");
  if (build.shards > 0) return build.shards;
  return std::max<std::int64_t>(1, ceil_div(files.rows * (files.row_bytes() + kIdBytes), kMaxShardBytes));
}

/// The same where FAISS builds each.
std::int64_t choose_faiss_shards(const IndexBuild& build, const io::IndexShape& files) {
  const std::int64_t by_bytes = choose_shards(build, files);
  if (build.shards > 0) return by_bytes;
  return std::max(by_bytes, std::min(kMostFaissShards, ceil_div(files.rows, kFaissShardRows)));
}

std::int64_t choose_training_rows(const IndexBuild& build, const IndexSpec& spec, std::int64_t rows) {
  const std::int64_t wanted =
      build.training_rows > 0 ? build.training_rows : kTrainingRowsPerList * spec.nlist;
  const std::int64_t training_rows = std::min(rows, wanted);
  if (training_rows < spec.nlist)
    throw Error(ErrorKind::config,
                "the centroids of " + std::to_string(spec.nlist) + " lists can't be trained on " +
                    std::to_string(training_rows) + " rows; " +
                    (training_rows == rows ? "build fewer lists" : "raise --training-rows"));
  return training_rows;
}

std::vector<MemoryItem> engine_items(const BuildPlan& plan, const JobShape& shape) {
  const kernels::CpuSearchPlan engine = kernels::plan_cpu_search(
      {.nb = plan.spec.nlist, .nq = kAssignPiece, .d = shape.d, .k = 1, .dtype = DType::f32},
      {.threads = shape.threads, .isa = shape.isa});
  return {{"centroids", plan.spec.nlist * shape.d * 4},
          {"engine scratch", engine.index_bytes + engine.scratch_bytes},
          {"rows that are assigned at once", kAssignPiece * (kAnswerBytes + shape.d * 4)}};
}

/// On root, which has all of the sample; its own part of it twice while it arrives.
std::vector<MemoryItem> training_items(const BuildPlan& plan, const JobShape& shape) {
  const std::int64_t own = shape.most_rows_of_rank(plan.training_rows);
  std::vector<MemoryItem> items = engine_items(plan, shape);
  items.push_back({"training sample (rank 0)", (plan.training_rows + own) * shape.d * 4});
  items.push_back({"labels of the sample (rank 0)", plan.training_rows * 16});
  items.push_back({"centroids in training", plan.spec.nlist * shape.d * 4});
  return items;
}

std::int64_t assigned_row_bytes(const JobShape& shape) {
  const DType held = shape.dtype == DType::f64 ? DType::f32 : shape.dtype;
  return 2 * (shape.d * value_bytes(held) + (shape.has_ids ? kIdBytes : 0)) + kLabelBytes;
}

std::vector<MemoryItem> assignment_items(const BuildPlan& plan, const JobShape& shape) {
  std::vector<MemoryItem> items = engine_items(plan, shape);
  items.push_back({"base rows (this block and the next)", plan.assign_block * assigned_row_bytes(shape)});
  return items;
}

std::int64_t placed_row_bytes(const JobShape& shape) {
  return shape.d * value_bytes(shape.dtype) + kIdBytes + kLabelBytes + kOrderBytes;
}

std::vector<MemoryItem> placing_items(const BuildPlan& plan, const JobShape& shape) {
  std::vector<MemoryItem> items = {{"base rows of a block", plan.place_block * placed_row_bytes(shape)},
                                   {"places in the lists", 4 * plan.spec.nlist * 8},
                                   {"rows on their way to disk", kWriteBytes}};
  if (plan.takes_lists) items.push_back({"lists of the base", plan.spec.nlist * (shape.d * 4 + 16)});
  return items;
}

/// Rows of a block that fit beside what is fixed, at most `wanted`. @return below 1 where none does
std::int64_t fit_block(std::int64_t wanted, std::int64_t memory_bytes, std::int64_t fixed_bytes,
                       std::int64_t row_bytes) {
  return std::min(wanted, (memory_bytes - fixed_bytes) / row_bytes);
}

[[noreturn]] void throw_too_small(std::int64_t needed, std::int64_t allowed, const std::string& remedy) {
  throw Error(ErrorKind::config, "the build needs at least " + format_bytes(needed) +
                                     " a rank, but --memory allows " + format_bytes(allowed) + "; " + remedy);
}

/// Rows of a block that a rank takes at once: its share of the base at most.
std::int64_t largest_block(const JobShape& shape) {
  const std::int64_t share = std::max<std::int64_t>(1, shape.most_rows_of_rank(shape.rows));
  return shape.batch > 0 ? std::min(share, shape.batch) : share;
}

void choose_assign_block(BuildPlan& plan, const JobShape& shape) {
  const double flops_a_row = 2.0 * static_cast<double>(plan.spec.nlist) * static_cast<double>(shape.d);
  const auto prompt = static_cast<std::int64_t>(kBlockFlops / flops_a_row);
  const std::int64_t bytes = assigned_row_bytes(shape);
  const std::int64_t wanted = std::min(
      {largest_block(shape), std::max(kMinBlock, prompt), std::max(kMinBlock, kMaxBlockBytes / bytes)});
  const std::int64_t fixed = sum_bytes(engine_items(plan, shape));
  plan.assign_block = fit_block(wanted, shape.memory_bytes, fixed, bytes);
  if (plan.assign_block < 1)
    throw_too_small(fixed + bytes, shape.memory_bytes, "raise --memory or build fewer lists");
}

void choose_place_block(BuildPlan& plan, const JobShape& shape) {
  const std::int64_t bytes = placed_row_bytes(shape);
  const std::int64_t fixed = sum_bytes(placing_items(plan, shape));  // the block is still empty
  const std::int64_t wanted = std::min(largest_block(shape), std::max(kMinBlock, kMaxPlacedBytes / bytes));
  plan.place_block = fit_block(wanted, shape.memory_bytes, fixed, bytes);
  if (plan.place_block < 1)
    throw_too_small(fixed + bytes, shape.memory_bytes, "raise --memory or build fewer lists");
}

/// Flops to find a row's nearest codewords, or its steps.
double encode_flops(const kernels::CodecShape& codec, std::int64_t d) {
  constexpr double kScalarFlops = 20;
  return static_cast<double>(d) *
         (codec.is_scalar() ? kScalarFlops : 2.0 * static_cast<double>(codec.codewords()));
}

std::int64_t encoded_row_bytes(const BuildPlan& plan) {
  return plan.files.row_bytes() + kIdBytes + plan.files.codes.code_bytes;
}

/// The sample as it is read and as it is coded, on root all ranks' of one part.
std::vector<MemoryItem> codec_items(const BuildPlan& plan, const JobShape& shape) {
  const std::int64_t own = shape.most_rows_of_rank(plan.codec_rows);
  std::vector<MemoryItem> items = engine_items(plan, shape);
  items.push_back({"sample that the codec is trained on", (2 * own + plan.codec_rows) * shape.d * 4});
  items.push_back({"codec", plan.files.codes.parameter_rows * shape.d * 4});
  return items;
}

std::vector<MemoryItem> encoding_items(const BuildPlan& plan, const JobShape& shape) {
  return {{"rows of a block and their codes", plan.encode_block * encoded_row_bytes(plan)},
          {"centroids and codec", (plan.spec.nlist + 2 * plan.files.codes.parameter_rows) * shape.d * 4 +
                                      shape.threads * shape.d * 4}};
}

void plan_codes(BuildPlan& plan, const JobShape& shape) {
  const kernels::CodecShape codec = parse_codec(plan.spec.codec);
  if (!codec.is_scalar() && shape.d % codec.parts != 0)
    throw Error(ErrorKind::usage, "rows of d = " + std::to_string(shape.d) + " can't be cut into the " +
                                      std::to_string(codec.parts) + " equal parts of " + plan.spec.codec +
                                      "; name a number of parts that divides d");
  plan.files.codes = {plan.spec.codec, codec.code_bytes(shape.d), codec.parameter_rows()};
  plan.codec_rows = std::min(shape.rows, kCodecTrainingRows);
  if (!codec.is_scalar() && plan.codec_rows < codec.codewords())
    throw Error(ErrorKind::config, std::to_string(codec.codewords()) + " codewords of " + plan.spec.codec +
                                       " can't be trained on " + std::to_string(plan.codec_rows) +
                                       " rows; leave the codes out, or take sq8");
  const double flops_a_row = encode_flops(codec, shape.d);
  plan.encoding_flops = flops_a_row * static_cast<double>(shape.rows);
  if (!codec.is_scalar())
    plan.codec_flops =
        flops_a_row * static_cast<double>(plan.codec_rows) * static_cast<double>(plan.iterations);
  const std::int64_t bytes = encoded_row_bytes(plan);
  const std::int64_t wanted = std::min(
      {largest_block(shape), std::max(kMinBlock, static_cast<std::int64_t>(kBlockFlops / flops_a_row)),
       std::max(kMinBlock, kMaxBlockBytes / bytes)});
  const std::int64_t fixed = sum_bytes(encoding_items(plan, shape));  // the block is still empty
  plan.encode_block = fit_block(wanted, shape.memory_bytes, fixed, bytes);
  if (plan.encode_block < 1)
    throw_too_small(fixed + bytes, shape.memory_bytes, "raise --memory or build fewer lists");
  const std::int64_t needed = sum_bytes(codec_items(plan, shape));
  if (needed > shape.memory_bytes)
    throw_too_small(needed, shape.memory_bytes, "raise --memory, or use more ranks");
}

/// Root has all of the sample, and its own part of it twice while it arrives; FAISS copies it once more.
std::vector<MemoryItem> faiss_training_items(const BuildPlan& plan, const JobShape& shape) {
  const std::int64_t own = shape.most_rows_of_rank(plan.training_rows);
  return {{"training sample (rank 0)", (2 * plan.training_rows + own) * shape.d * 4}};
}

std::vector<MemoryItem> indexing_items(const BuildPlan& plan) {
  return {{"shards that FAISS builds at once, with their rows", plan.builders * plan.faiss_bytes}};
}

/// What FAISS looks at for each row of a graph, or of lists: nobody knows before.
constexpr double kFaissComparisons = 1000;

/// @return memory of the steps that FAISS carries out
std::vector<std::vector<MemoryItem>> plan_faiss(BuildPlan& plan, const IndexBuild& build,
                                                const JobShape& shape) {
  const FaissTraits traits = FaissIndex::create(plan.spec.factory, shape.d, plan.metric).traits();
  const std::int64_t wanted = build.training_rows > 0 ? build.training_rows : traits.training_rows;
  if (!traits.is_trained) {
    plan.training_rows = std::min(shape.rows, wanted);
    plan.poor_training_rows = traits.training_rows * kPoorTrainingRowsPerList / kTrainingRowsPerList;
  }
  const double d = static_cast<double>(shape.d);
  plan.training_flops = kFaissComparisons * d * static_cast<double>(plan.training_rows);
  plan.indexing_flops = kFaissComparisons * d * static_cast<double>(shape.rows);
  const std::vector<MemoryItem> training = faiss_training_items(plan, shape);
  if (sum_bytes(training) > shape.memory_bytes)
    throw_too_small(sum_bytes(training), shape.memory_bytes,
                    "raise --memory, or lower --training-rows below " + std::to_string(plan.training_rows));
  const io::Range first = plan.files.shard(0);
  plan.faiss_bytes = (first.end - first.begin) * (shape.d * 4 + plan.files.row_bytes() + traits.row_bytes) +
                     traits.fixed_bytes + traits.table_bytes;
  const std::int64_t shards_a_rank = ceil_div(plan.files.n_shards, shape.n_ranks);
  plan.builders =
      std::min({std::int64_t{shape.threads}, shards_a_rank, shape.memory_bytes / plan.faiss_bytes});
  if (plan.builders < 1)
    throw_too_small(plan.faiss_bytes, shape.memory_bytes, "raise --memory or name more --shards");
  plan.index_bytes = shape.rows * traits.row_bytes + plan.files.n_shards * traits.fixed_bytes;
  return {training, indexing_items(plan)};
}

void check_training_memory(const BuildPlan& plan, const JobShape& shape) {
  const std::int64_t needed = sum_bytes(training_items(plan, shape));
  if (needed > shape.memory_bytes)
    throw_too_small(needed, shape.memory_bytes,
                    "raise --memory, or lower --training-rows below " + std::to_string(plan.training_rows));
}

}  // namespace

BuildPlan plan_build(const SearchJobConfig& config, const JobShape& shape) {
  const IndexBuild& build = *config.build;
  BuildPlan plan;
  plan.spec = parse_index_spec(config.index);
  plan.metric = config.metric;
  plan.files = {.rows = shape.rows,
                .d = shape.d,
                .dtype = shape.dtype,
                .nlist = plan.spec.nlist,
                .has_centroids = plan.spec.has_lists()};
  plan.files.n_shards =
      plan.spec.is_faiss() ? choose_faiss_shards(build, plan.files) : choose_shards(build, plan.files);
  plan.memory_limit_bytes = shape.memory_bytes;
  plan.takes_lists = build.imports && plan.spec.has_lists();
  if (plan.spec.has_lists()) plan.scratch_bytes = shape.rows * kLabelBytes;
  choose_place_block(plan, shape);
  std::vector<std::vector<MemoryItem>> steps = {placing_items(plan, shape)};
  if (plan.spec.has_lists() && !plan.takes_lists) {
    plan.training_rows = choose_training_rows(build, plan.spec, shape.rows);
    plan.iterations = build.iterations;
    check_training_memory(plan, shape);
    choose_assign_block(plan, shape);
    steps.push_back(training_items(plan, shape));
    steps.push_back(assignment_items(plan, shape));
    const double products = 2.0 * static_cast<double>(plan.spec.nlist) * static_cast<double>(shape.d);
    plan.training_flops =
        products * static_cast<double>(plan.training_rows) * static_cast<double>(plan.iterations);
    plan.assignment_flops = products * static_cast<double>(shape.rows);
  }
  if (!plan.spec.codec.empty()) {
    plan_codes(plan, shape);
    steps.push_back(codec_items(plan, shape));
    steps.push_back(encoding_items(plan, shape));
  }
  if (plan.spec.is_faiss()) std::ranges::copy(plan_faiss(plan, build, shape), std::back_inserter(steps));
  plan.memory = *std::ranges::max_element(steps, {}, sum_bytes);
  plan.memory_bytes = sum_bytes(plan.memory);
  plan.index_bytes += shape.rows * (plan.files.row_bytes() + kIdBytes + plan.files.codes.code_bytes) +
                      plan.spec.nlist * (shape.d * 4 + 8) + plan.files.codes.parameter_rows * shape.d * 4;
  return plan;
}

FaissShape planned_faiss(const std::string& factory, const JobShape& base) {
  const FaissTraits traits = FaissIndex::create(factory, base.d, Metric::l2).traits();
  io::IndexShape files{.rows = base.rows, .d = base.d, .dtype = base.dtype};
  files.n_shards = choose_faiss_shards({}, files);
  const io::Range first = files.shard(0);
  return {
      .factory = factory,
      .parameter = traits.parameter,
      .shards = files.n_shards,
      .shard_rows = first.end - first.begin,
      .shard_bytes = (first.end - first.begin) * traits.row_bytes + traits.fixed_bytes + traits.table_bytes};
}

std::vector<std::string> build_warnings(const BuildPlan& plan) {
  std::vector<std::string> warnings;
  if (plan.poor_training_rows > plan.training_rows)
    warnings.push_back("FAISS is trained on " + std::to_string(plan.training_rows) + " rows only; at least " +
                       std::to_string(plan.poor_training_rows) + " make a good index");
  const std::int64_t enough = kPoorTrainingRowsPerList * plan.spec.nlist;
  if (plan.training_rows > 0 && plan.training_rows < enough)
    warnings.push_back("the centroids of " + std::to_string(plan.spec.nlist) + " lists are trained on " +
                       std::to_string(plan.training_rows) + " rows only; at least " + std::to_string(enough) +
                       " make good ones");
  return warnings;
}

std::string to_string(const BuildPlan& plan, const JobShape& shape) {
  const auto count = [](std::int64_t value) { return std::to_string(value); };
  std::string text =
      "base " + count(shape.rows) + " x " + count(shape.d) + " " + std::string(to_string(shape.dtype)) +
      " (" + format_bytes(shape.rows * plan.files.row_bytes()) + "), " + std::string(to_string(plan.metric)) +
      ", " + count(shape.n_ranks) + " rank(s) of " + count(shape.threads) + " thread(s)\n";
  text += "index " + plan.spec.type;
  if (plan.spec.has_lists())
    text += " of " + count(plan.spec.nlist) + " lists, " + count(shape.rows / plan.spec.nlist) +
            " rows each on average; " +
            (plan.takes_lists ? "lists and centroids are those of the base"
                              : "trained on " + count(plan.training_rows) + " rows in " +
                                    count(plan.iterations) + " iterations");
  if (plan.spec.is_faiss())
    text +=
        " " + plan.spec.factory + ", " +
        (plan.training_rows > 0 ? "trained on " + count(plan.training_rows) + " rows by one thread of rank 0"
                                : std::string("not trained")) +
        "; a shard of " + count(plan.files.shard(0).end) + " rows takes about " +
        format_bytes(plan.faiss_bytes) + " while FAISS builds it, a thread each, " + count(plan.builders) +
        " at once on a rank";
  text += "\n";
  if (!plan.spec.codec.empty())
    text += "codes " + plan.spec.codec + " of " + count(plan.files.codes.code_bytes) +
            " bytes a row (a row has " + count(plan.files.row_bytes()) + "), trained on " +
            count(plan.codec_rows) + " rows\n";
  if (plan.assign_block > 0) text += "assigned in blocks of " + count(plan.assign_block) + " rows, ";
  text += "written in blocks of " + count(plan.place_block) + " rows a rank\n";
  text += "memory of one rank: " + format_bytes(plan.memory_bytes) + " of " +
          format_bytes(plan.memory_limit_bytes) + "\n";
  for (const MemoryItem& item : plan.memory)
    text += "  " + item.name + ": " + format_bytes(item.bytes) + "\n";
  text += "disk: " + format_bytes(plan.index_bytes) + " in " + count(plan.files.n_shards) + " shard(s)";
  if (plan.scratch_bytes > 0) text += ", and " + format_bytes(plan.scratch_bytes) + " while it is built";
  return text + "\n";
}

}  // namespace mpishards::rank

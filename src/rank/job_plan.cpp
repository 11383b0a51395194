#include "rank/job_plan.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/error.hpp"
#include "kernels/coded_ivf.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"
#include "rank/candidate_ranker.hpp"
#include "rank/clusters.hpp"
#include "rank/faiss_shards.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kPairBytes = 12;  // an id and a distance
// About a second on one CPU rank: progress and stops stay prompt.
constexpr double kBatchFlops = 2e11;
constexpr double kPackedBatchFlops = 1e12;
constexpr std::int64_t kMinBatch = 256;
constexpr std::int64_t kMaxBatch = 65536;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::string count(std::int64_t value) {
  return std::to_string(value);
}

std::int64_t faiss_shards_a_rank(const JobShape& shape) {
  return ceil_div(shape.faiss->shards, shape.n_ranks);
}

/// Bytes of one base row in memory: f64 is narrowed when it is read.
std::int64_t row_bytes(const JobShape& shape) {
  if (shape.codec) return shape.codec->code_bytes(shape.d);
  const DType held = shape.dtype == DType::f64 ? DType::f32 : shape.dtype;
  return shape.d * static_cast<std::int64_t>(size_bytes(held)) + (shape.has_ids ? 8 : 0);
}

std::int64_t stored_row_bytes(const JobShape& shape) {
  if (shape.codec) return shape.codec->code_bytes(shape.d);
  return shape.d * static_cast<std::int64_t>(size_bytes(shape.dtype)) + (shape.has_ids ? 8 : 0);
}

/// Rows that a query is compared with, centroids included, in a base of so many. What FAISS looks at nobody
/// knows before: a share that is usual.
double compared_rows(const JobShape& shape, std::int64_t rows) {
  constexpr double kFaissShare = 1.0 / 32;
  const auto all = static_cast<double>(rows);
  if (shape.faiss) return kFaissShare * all;
  if (shape.lists == 0) return all;
  const auto lists = static_cast<double>(shape.lists);
  return lists + all * static_cast<double>(shape.planned_nprobe()) / lists;
}

/// Multiplications with rows and centroids and their sums; of codes look-ups instead, an operation a byte,
/// and products with the candidates.
double flops_a_query(const JobShape& shape) {
  const double compared = compared_rows(shape, shape.rows);
  const auto d = static_cast<double>(shape.d);
  if (!shape.codec) return 2 * compared * d;
  const auto lists = static_cast<double>(shape.lists);
  return 2 * (lists + static_cast<double>(shape.searched_k())) * d +
         (compared - lists) * static_cast<double>(shape.codec->code_bytes(shape.d));
}

kernels::CpuSearchPlan engine_plan(const JobShape& shape, std::int64_t rows, std::int64_t batch) {
  const kernels::SearchShape part{
      .nb = rows, .nq = batch, .d = shape.d, .k = shape.searched_k(), .dtype = shape.dtype};
  // An engine that packs rows does so when enough queries have come, however small the batches.
  const kernels::CpuLimits limits{
      .threads = shape.threads, .isa = shape.isa, .is_packed = shape.nq >= kernels::kQueriesWorthPacking};
  if (shape.faiss) {
    kernels::CpuSearchPlan plan;
    plan.scratch_bytes = faiss_scratch_bytes(shape.faiss->shard_rows, faiss_shards_a_rank(shape), shape.d,
                                             shape.searched_k(), shape.threads);
    return plan;
  }
  if (shape.lists == 0) return kernels::plan_cpu_search(part, limits);
  // Of lists of equal length a shard has its share, cut at both ends.
  const std::int64_t lists = ceil_div(shape.lists * rows, std::max<std::int64_t>(shape.rows, 1)) + 1;
  if (shape.codec) {
    const kernels::CodedSearchBytes bytes =
        kernels::plan_coded_search(*shape.codec, rows, shape.d, lists, shape.searched_k(), shape.threads);
    kernels::CpuSearchPlan plan;
    plan.index_bytes = bytes.index_bytes;
    plan.scratch_bytes = bytes.scratch_bytes;
    return plan;
  }
  return kernels::plan_cpu_list_search({part, lists, shape.planned_nprobe()}, limits);
}

std::int64_t choose_batch(const JobShape& shape) {
  const std::int64_t rows = shape.most_rows_of_rank(std::max<std::int64_t>(shape.rows, 1));
  const double flops_a_query = 2.0 * compared_rows(shape, rows) * static_cast<double>(shape.d);
  const bool is_packed = !shape.eps && engine_plan(shape, rows, 1).has_plane;
  const double flops = is_packed ? kPackedBatchFlops : kBatchFlops;
  const double wanted =
      std::clamp(flops / flops_a_query, static_cast<double>(kMinBatch), static_cast<double>(kMaxBatch));
  const std::int64_t rounded = static_cast<std::int64_t>(wanted) / kMinBatch * kMinBatch;
  return std::clamp<std::int64_t>(rounded, 1, std::max<std::int64_t>(shape.nq, 1));
}

/// Hits that a rank may hold at once: a quarter of its memory, more of it brings nothing.
std::int64_t max_hits_of(const JobShape& shape) {
  constexpr std::int64_t kMostBytes = std::int64_t{2} << 30;
  return std::max<std::int64_t>(1, std::min(shape.memory_bytes / 4, kMostBytes) / kernels::kBytesPerRangeHit);
}

std::vector<MemoryItem> range_items(const JobShape& shape, std::int64_t rows, std::int64_t batch) {
  return {{"query batches (this one and the next)", 2 * batch * shape.d * 4},
          {"hits within eps", max_hits_of(shape) * kernels::kBytesPerRangeHit},
          {"engine scratch", kernels::plan_cpu_range_search(
                                 {.nb = rows, .nq = batch, .d = shape.d, .k = 1, .dtype = shape.dtype},
                                 {.threads = shape.threads, .isa = shape.isa})
                                 .scratch_bytes}};
}

/// Of a rank's slice of a batch: its queries, and the rows of their candidates.
std::int64_t candidate_row_bytes(const JobShape& shape, std::int64_t queries) {
  return queries * shape.d * 4 +
         CandidateRanker::bytes_for(queries, shape.searched_k(), shape.d, shape.dtype, shape.threads);
}

/// What a rank holds besides base rows, for a batch and a number of resident queries.
std::vector<MemoryItem> fixed_items(const JobShape& shape, std::int64_t rows, std::int64_t batch,
                                    std::int64_t resident_queries) {
  if (shape.eps) return range_items(shape, rows, batch);
  std::vector<MemoryItem> items = {
      {"query batches (this one and the next)", 2 * batch * shape.d * 4},
      {"answers of a batch and their exchange", 4 * batch * shape.searched_k() * kPairBytes},
      {"engine scratch", engine_plan(shape, rows, batch).scratch_bytes},
  };
  if (shape.lists > 0) {
    items.push_back({"lists that queries look into", 2 * batch * shape.planned_nprobe() * 4});
    items.push_back({"centroids", shape.lists * (shape.d * 4 + 16)});
  }
  if (shape.names_candidates())
    items.push_back({"candidates' rows", candidate_row_bytes(shape, ceil_div(batch, shape.n_ranks))});
  if (resident_queries > 0) {
    items.push_back({"resident queries", resident_queries * (shape.d + 1 + shape.planned_nprobe()) * 4});
    if (shape.codec)
      items.push_back(
          {"this rank's resident queries", ceil_div(resident_queries, shape.n_ranks) * shape.d * 4});
    items.push_back(
        {"running answers", ceil_div(resident_queries, shape.n_ranks) * shape.searched_k() * kPairBytes});
  }
  return items;
}

std::int64_t sum_bytes(const std::vector<MemoryItem>& items) {
  return std::accumulate(items.begin(), items.end(), std::int64_t{0},
                         [](std::int64_t sum, const MemoryItem& item) { return sum + item.bytes; });
}

[[noreturn]] void throw_too_small(const JobShape& shape, std::int64_t needed) {
  throw Error(ErrorKind::config, "the job needs at least " + format_bytes(needed) +
                                     " a rank, but --memory allows " + format_bytes(shape.memory_bytes) +
                                     "; raise --memory, lower --batch or -k, or use more ranks");
}

std::vector<MemoryItem> base_items(const JobShape& shape, std::int64_t rows, bool streamed,
                                   std::int64_t batch) {
  if (shape.faiss) return {{"indexes of FAISS", faiss_shards_a_rank(shape) * shape.faiss->shard_bytes}};
  return {{streamed ? "base rows (this group and the next)" : "base rows",
           (streamed ? 2 : 1) * rows * row_bytes(shape)},
          {"index beside the rows", engine_plan(shape, rows, batch).index_bytes}};
}

void set_memory(JobPlan& plan, const JobShape& shape, bool streamed) {
  plan.memory = base_items(shape, plan.rows_per_rank, streamed, plan.batch);
  const std::vector<MemoryItem> fixed =
      fixed_items(shape, plan.rows_per_rank, plan.batch, streamed ? plan.queries_per_pass : 0);
  plan.memory.insert(plan.memory.end(), fixed.begin(), fixed.end());
  plan.memory_bytes = sum_bytes(plan.memory);
}

/// Largest shard of a streamed group that fits beside what is fixed; by bisection, because the index's share
/// is the engine's own arithmetic.
std::int64_t fit_rows(JobPlan plan, const JobShape& shape) {
  std::int64_t fits = 0;
  std::int64_t beyond = shape.most_rows_of_rank(shape.rows) + 1;
  while (beyond - fits > 1) {
    plan.rows_per_rank = fits + (beyond - fits) / 2;
    set_memory(plan, shape, true);
    (plan.memory_bytes <= shape.memory_bytes ? fits : beyond) = plan.rows_per_rank;
  }
  return fits;
}

/// So many rows, or fewer, that no rank has more than rows_per_rank of them. @pre rows_per_rank >= 1
std::int64_t rows_of_group(const JobShape& shape, std::int64_t rows_per_rank) {
  if (shape.weights.empty()) return rows_per_rank * shape.n_ranks;
  const double share = *std::ranges::max_element(shape.weights) /
                       std::accumulate(shape.weights.begin(), shape.weights.end(), 0.0);
  // The ends of shards are rounded: one may have a row more than its share.
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(rows_per_rank - 1) / share));
}

void plan_streamed(JobPlan& plan, const JobShape& shape) {
  if (shape.faiss)
    throw Error(ErrorKind::config,
                "the indexes of FAISS and their search take " + format_bytes(plan.memory_bytes) +
                    " a rank, but --memory allows " + format_bytes(shape.memory_bytes) +
                    ", and they can't be streamed; raise --memory or lower --batch, or use "
                    "more ranks, of which each has whole shards of the " +
                    count(shape.faiss->shards));
  // Queries stay resident while the base streams past, in at most half of the memory.
  plan.queries_per_pass = std::max<std::int64_t>(shape.nq, 1);
  // Hits within eps go to disk: no query has to stay.
  while (!shape.eps && plan.queries_per_pass > plan.batch &&
         sum_bytes(fixed_items(shape, 1, plan.batch, plan.queries_per_pass)) > shape.memory_bytes / 2)
    plan.queries_per_pass = ceil_div(plan.queries_per_pass, 2);
  plan.passes = ceil_div(std::max<std::int64_t>(shape.nq, 1), plan.queries_per_pass);
  plan.rows_per_rank = fit_rows(plan, shape);
  if (plan.rows_per_rank < 1) {
    plan.rows_per_rank = 1;
    set_memory(plan, shape, true);
    throw_too_small(shape, plan.memory_bytes);
  }
  plan.rows_per_group = rows_of_group(shape, plan.rows_per_rank);
  plan.groups = ceil_div(shape.rows, plan.rows_per_group);
  // Groups of equal size instead of a short last one.
  plan.rows_per_group = ceil_div(shape.rows, plan.groups);
  plan.rows_per_rank = shape.most_rows_of_rank(plan.rows_per_group);
  set_memory(plan, shape, true);
}

void shrink_batch_to_memory(JobPlan& plan, const JobShape& shape) {
  while (plan.batch > 1 && sum_bytes(fixed_items(shape, 1, plan.batch, 0)) > shape.memory_bytes / 2)
    plan.batch = ceil_div(plan.batch, 2);
}

void plan_clusters(JobPlan& plan, const JobShape& shape) {
  plan.result_bytes += shape.nq * kClusterBytesPerRow;
  plan.cluster_bytes = cluster_bytes(shape.nq);
  if (plan.cluster_bytes > shape.memory_bytes)
    throw Error(ErrorKind::config, "--clusters holds " + std::to_string(kClusterBytesPerRow) +
                                       " bytes a row, " + format_bytes(plan.cluster_bytes) +
                                       " a rank, but --memory allows " + format_bytes(shape.memory_bytes) +
                                       "; raise --memory or leave --clusters out");
}

/// How the queries meet a streamed base.
std::string passes_text(const JobPlan& plan, const JobShape& shape) {
  if (shape.eps) return "each read once and met by all queries";
  return count(plan.passes) + " pass(es) of " + count(plan.queries_per_pass) + " resident queries";
}

}  // namespace

JobPlan plan_job(const JobShape& shape, const JobRoofs& roofs) {
  JobPlan plan;
  plan.memory_limit_bytes = shape.memory_bytes;
  plan.batch =
      shape.batch > 0 ? std::min(shape.batch, std::max<std::int64_t>(shape.nq, 1)) : choose_batch(shape);
  if (shape.batch == 0) shrink_batch_to_memory(plan, shape);
  std::int64_t candidate_bytes = 0;
  plan.groups = 1;
  plan.rows_per_group = shape.rows;
  plan.rows_per_rank = shape.faiss
                           ? std::min(shape.rows, faiss_shards_a_rank(shape) * shape.faiss->shard_rows)
                           : shape.most_rows_of_rank(shape.rows);
  plan.passes = 1;
  plan.queries_per_pass = shape.nq;
  set_memory(plan, shape, false);
  if (plan.memory_bytes > shape.memory_bytes) plan_streamed(plan, shape);

  if (shape.names_candidates())  // each candidate's row at most
    candidate_bytes =
        shape.nq * shape.searched_k() * (shape.d * static_cast<std::int64_t>(size_bytes(shape.dtype)) + 8);
  const std::int64_t searched_bytes =
      shape.faiss ? shape.faiss->shards * shape.faiss->shard_bytes : shape.rows * stored_row_bytes(shape);
  plan.read_bytes = candidate_bytes + plan.passes * searched_bytes + shape.nq * shape.d * 4;
  plan.result_bytes = shape.eps ? (shape.nq + 1) * 8 : shape.nq * shape.k * kPairBytes;
  if (shape.has_clusters) plan_clusters(plan, shape);
  if (shape.eps) plan.max_hits = max_hits_of(shape);
  plan.scratch_bytes =
      plan.result_bytes +
      (plan.groups > 1 && !shape.eps ? 2 * plan.queries_per_pass * shape.searched_k() * kPairBytes : 0);
  if (shape.symmetrized) {  // every edge may be there in both rows, and both graphs lie side by side
    plan.result_bytes *= 2;
    plan.scratch_bytes += plan.result_bytes;
  }
  plan.flops = static_cast<double>(shape.nq) * flops_a_query(shape);
  if (roofs.flops_per_second > 0) plan.search_seconds = plan.flops / shape.n_ranks / roofs.flops_per_second;
  if (roofs.read_bytes_per_second > 0)
    plan.read_seconds = static_cast<double>(plan.read_bytes) / shape.n_ranks / roofs.read_bytes_per_second;
  return plan;
}

std::int64_t JobShape::most_rows_of_rank(std::int64_t of) const {
  if (weights.empty()) return ceil_div(of, n_ranks);
  const ShardMap map = shards({0, of});
  std::int64_t most = 0;
  for (int rank = 0; rank < n_ranks; ++rank) {
    const io::Range shard = map.shard(rank);
    most = std::max(most, shard.end - shard.begin);
  }
  return most;
}

std::int64_t JobShape::planned_nprobe() const {
  constexpr std::int64_t kUsualShare = 32;  // of the lists, where a recall decides
  if (lists == 0) return 0;
  return nprobe > 0 ? nprobe : ceil_div(lists, kUsualShare);
}

std::string wanted_text(const JobShape& shape) {
  if (!shape.eps) return "k = " + count(shape.k);
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "eps = %.9g", static_cast<double>(*shape.eps));
  return text.data();
}

/// "1, 1, 0.25", of many ranks the first ones.
std::string shares_text(const std::vector<double>& weights) {
  constexpr std::size_t kMostShown = 16;
  std::string text;
  for (std::size_t r = 0; r < std::min(weights.size(), kMostShown); ++r) {
    std::array<char, 32> weight{};
    std::snprintf(weight.data(), weight.size(), "%.6g", weights[r]);
    text += (r == 0 ? "" : ", ") + std::string(weight.data());
  }
  return weights.size() > kMostShown ? text + ", ..." : text;
}

std::string to_string(const JobPlan& plan, const JobShape& shape) {
  std::string text = "base " + count(shape.rows) + " x " + count(shape.d) + " " +
                     std::string(to_string(shape.dtype)) + " (" +
                     format_bytes(shape.rows * shape.d * static_cast<std::int64_t>(size_bytes(shape.dtype))) +
                     "), " + count(shape.nq) + " queries, " + wanted_text(shape) + ", " +
                     count(shape.n_ranks) + " rank(s) of " + count(shape.threads) + " thread(s)\n";
  if (!shape.weights.empty()) text += "shares of the base: " + shares_text(shape.weights) + "\n";
  if (shape.lists > 0)
    text += count(shape.lists) + " lists, a query looks into " +
            (shape.nprobe > 0 ? count(shape.nprobe) : std::string("as many as the recall takes")) + "\n";
  if (shape.codec)
    text += "codes of " + count(shape.codec->code_bytes(shape.d)) + " bytes a row are searched; " +
            count(shape.searched_k()) + " candidates a query are ranked by the rows on disk\n";
  if (shape.faiss)
    text += "FAISS searches " + shape.faiss->factory + " in " + count(shape.faiss->shards) + " shard(s); " +
            count(shape.searched_k()) + " candidates a query are ranked by the rows on disk\n";
  if (plan.groups == 1)
    text += "base resident: " + count(plan.rows_per_rank) + " rows a rank, read once";
  else
    text += "base streamed: " + count(plan.groups) + " groups of " + count(plan.rows_per_group) + " rows (" +
            count(plan.rows_per_rank) + " a rank), " + passes_text(plan, shape);
  text += "; batches of " + count(plan.batch) + " queries\n";
  text += "memory of one rank: " + format_bytes(plan.memory_bytes) + " of " +
          format_bytes(plan.memory_limit_bytes) + "\n";
  for (const MemoryItem& item : plan.memory) {
    std::array<char, 96> line{};
    std::snprintf(line.data(), line.size(), "  %-40s %12s\n", item.name.c_str(),
                  format_bytes(item.bytes).c_str());
    text += line.data();
  }
  if (shape.has_clusters)
    text += "clusters: " + format_bytes(plan.cluster_bytes) + " a rank, once the search is over\n";
  text += "reads " + format_bytes(plan.read_bytes) + ", result " + format_bytes(plan.result_bytes) +
          ", disk while running " + format_bytes(plan.scratch_bytes) +
          (shape.eps ? "; each row within eps adds 12 B to the result and 12 B while running" : "") + "\n";
  return text;
}

namespace {

struct SizeUnit {
  const char* name;
  double bytes;
};
constexpr SizeUnit kSizeUnits[] = {
    {"TiB", 1099511627776.0},
    {"GiB", 1073741824.0},
    {"MiB", 1048576.0},
    {"KiB", 1024.0},
    {"TB", 1e12},
    {"GB", 1e9},
    {"MB", 1e6},
    {"kB", 1e3},
    {"T", 1099511627776.0},
    {"G", 1073741824.0},
    {"M", 1048576.0},
    {"K", 1024.0},
    {"B", 1.0},
};

}  // namespace

std::string format_bytes(std::int64_t bytes) {
  std::array<char, 32> text{};
  for (std::size_t u = 0; u < 4; ++u) {
    if (static_cast<double>(bytes) < kSizeUnits[u].bytes) continue;
    std::snprintf(text.data(), text.size(), "%.1f %s", static_cast<double>(bytes) / kSizeUnits[u].bytes,
                  kSizeUnits[u].name);
    return text.data();
  }
  return std::to_string(bytes) + " B";
}

std::int64_t parse_bytes(const std::string& text) {
  std::size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  std::string unit = text.substr(used);
  unit.erase(0, unit.find_first_not_of(' ') == std::string::npos ? unit.size() : unit.find_first_not_of(' '));
  double factor = unit.empty() ? 1.0 : 0.0;
  const auto same = [](const std::string& a, const std::string& b) {
    return std::ranges::equal(a, b, [](char x, char y) {
      return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
    });
  };
  for (const SizeUnit& row : kSizeUnits)
    if (factor == 0.0 && same(unit, row.name)) factor = row.bytes;
  const double bytes = value * factor;
  if (used == 0 || factor == 0.0 || !(bytes >= 0) || bytes > 9e18)
    throw Error(ErrorKind::usage, "'" + text + "' is no size; write for example 8GiB or 500MB");
  return static_cast<std::int64_t>(std::llround(bytes));
}

}  // namespace mpishards::rank

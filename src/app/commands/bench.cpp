#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/options.hpp"
#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/matrix_view.hpp"
#include "core/narrow.hpp"
#include "core/timer.hpp"
#include "kernels/index.hpp"
#include "merge/merge_strategy.hpp"
#include "merge/wire.hpp"
#include "rank/host_info.hpp"

namespace mpishards::app {

namespace {

/// What all rows of a run have in common.
struct BenchRun {
  int repetitions = 5;
  std::uint32_t seed = 1;
  bool json = false;
};

using Row = std::vector<std::pair<std::string, nlohmann::json>>;

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t comma = std::min(list.find(',', begin), list.size());
    parts.push_back(list.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return parts;
}

std::vector<std::int64_t> counts_of(const cxxopts::ParseResult& options, const std::string& name) {
  std::vector<std::int64_t> counts;
  for (const std::string& part : split(options[name].as<std::string>())) {
    counts.push_back(parse_count(part));
    if (counts.back() < 1)
      throw comm::AgreedError(ErrorKind::usage, "--" + name + " " + part + ": must be at least 1");
  }
  return counts;
}

/// Median over repetitions of the slowest rank's time, after one run that warms up. Collective over world.
double measure_seconds(int repetitions, const comm::Communicator& world,
                       const std::function<void()>& action) {
  action();
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    world.barrier();
    const double begin = steady_seconds();
    action();
    times.push_back(world.max(steady_seconds() - begin));
  }
  const auto middle = times.begin() + narrow<std::ptrdiff_t>(times.size() / 2);
  std::ranges::nth_element(times, middle);
  return *middle;
}

/// Numbers for people have four digits; a file of JSON lines has them all.
std::string cell(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value.get<double>());
  return text.data();
}

void print_row(const Row& row, bool first, bool as_json) {
  if (as_json) {
    nlohmann::ordered_json json = {{"schema", "mpishards.bench/1"}};
    for (const auto& [name, value] : row) json[name] = value;
    std::printf("%s\n", json.dump().c_str());
    return;
  }
  // The first column holds names, the longest being that of a strategy chosen by "auto".
  const auto print_cells = [&](const auto& text_of) {
    for (std::size_t i = 0; i < row.size(); ++i)
      std::printf(i == 0 ? "%-16s" : "%12s", text_of(row[i]).c_str());
    std::printf("\n");
  };
  if (first) print_cells([](const Row::value_type& column) { return column.first; });
  print_cells([](const Row::value_type& column) { return cell(column.second); });
  std::fflush(stdout);
}

Matrix random_matrix(std::int64_t rows, std::int64_t d, std::uint32_t seed) {
  Matrix matrix(DType::f32, rows, d);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::generate_n(matrix.as<float>().data, rows * d, [&] { return normal(random); });
  return matrix;
}

struct KernelShape {
  std::int64_t rows = 0;  // of each rank
  std::int64_t d = 0;
  std::int64_t nq = 0;
  std::int64_t k = 0;
  Metric metric = Metric::l2;
};

double similarity(Metric metric, const float* a, const float* b, std::int64_t d) {
  double dot = 0;
  double aa = 0;
  double bb = 0;
  double squared = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    dot += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
    squared += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  if (metric == Metric::l2) return -squared;
  if (metric == Metric::ip) return dot;
  return aa > 0 && bb > 0 ? dot / std::sqrt(aa * bb) : 0;
}

/// Share of the k nearest rows, found by plain loops in double, that are in the answer; of the first few
/// queries.
double recall_of_sample(const KernelShape& shape, MatrixView<const float> base,
                        MatrixView<const float> queries, const TopK& found) {
  constexpr std::int64_t kSample = 5;
  const std::int64_t sample = std::min(kSample, shape.nq);
  const std::int64_t wanted = std::min(shape.k, shape.rows);
  std::int64_t hits = 0;
  std::vector<std::pair<double, GlobalId>> all(static_cast<std::size_t>(shape.rows));
  for (std::int64_t q = 0; q < sample; ++q) {
    for (std::int64_t r = 0; r < shape.rows; ++r)
      all[static_cast<std::size_t>(r)] = {-similarity(shape.metric, queries.row(q), base.row(r), shape.d), r};
    std::ranges::partial_sort(all, all.begin() + wanted);
    for (std::int64_t i = 0; i < wanted; ++i)
      hits += std::ranges::count(found.row(q).neighbors, all[static_cast<std::size_t>(i)].second);
  }
  return static_cast<double>(hits) / static_cast<double>(sample * wanted);
}

/// One row: every rank searches rows of its own, without a merge.
Row bench_kernel(const KernelShape& shape, const BenchRun& run, kernels::Index& index, const Matrix& base,
                 const Matrix& queries, const comm::Communicator& world) {
  const auto base_rows = base.view().as<float>();
  const auto query_rows = queries.view().as<float>();
  const double build_begin = steady_seconds();
  comm::agree(world, [&] { index.build(base.view(), {}); });
  const double build_seconds = world.max(steady_seconds() - build_begin);
  TopK found(shape.nq, shape.k, shape.metric);
  const kernels::SearchCounters before = index.counters();
  const double seconds =
      measure_seconds(run.repetitions, world, [&] { index.search(query_rows, {}, found); });
  const kernels::SearchCounters after = index.counters();
  const double recall = world.min(recall_of_sample(shape, base_rows, query_rows, found));

  const auto nq = static_cast<double>(shape.nq);
  const double values = static_cast<double>(shape.rows) * static_cast<double>(shape.d);
  const double certified = static_cast<double>(after.certified - before.certified) /
                           static_cast<double>(std::max<std::int64_t>(1, after.queries - before.queries));
  return {{"metric", to_string(shape.metric)},
          {"ranks", world.size()},
          {"rows", shape.rows},
          {"dim", shape.d},
          {"queries", shape.nq},
          {"k", shape.k},
          {"build_s", build_seconds},
          {"seconds", seconds},
          {"recall", recall},
          {"queries/s", nq / seconds},
          {"GFLOP/s", 2 * nq * values / seconds * 1e-9 * world.size()},
          {"GB/s", values * sizeof(float) / seconds * 1e-9 * world.size()},
          {"certified", certified}};
}

int bench_kernels(const cxxopts::ParseResult& options, const BenchRun& run, const comm::Communicator& world) {
  kernels::EngineOptions engine;
  const comm::Communicator host = world.split_by_host();
  engine.threads = options.count("threads") > 0 ? narrow<int>(counts_of(options, "threads").front())
                                                : std::max(1, rank::bound_cores() / host.size());
  engine.isa = options["isa"].as<std::string>();
  const std::string engine_name = kernels::resolve_engine(options["engine"].as<std::string>());
  bool first = true;
  for (const std::int64_t rows : counts_of(options, "rows"))
    for (const std::int64_t d : counts_of(options, "dim")) {
      const auto rank_seed = run.seed + 1 + static_cast<std::uint32_t>(world.rank());
      const Matrix base = random_matrix(rows, d, rank_seed);
      for (const std::int64_t nq : counts_of(options, "queries")) {
        const Matrix queries = random_matrix(nq, d, run.seed);
        for (const std::string& metric_name : split(options["metric"].as<std::string>()))
          for (const std::int64_t k : counts_of(options, "k")) {
            const KernelShape shape{rows, d, nq, k, metric_from_string(metric_name)};
            const auto index = kernels::make_index("flat", engine_name, shape.metric, engine);
            const Row row = bench_kernel(shape, run, *index, base, queries, world);
            if (first && !run.json && world.is_root())
              std::printf("%s, %d threads a rank, random normal vectors, seed %u, median of %d\n",
                          index->description().c_str(), engine.threads, run.seed, run.repetitions);
            if (world.is_root()) print_row(row, first, run.json);
            first = false;
          }
      }
    }
  return 0;
}

/// A rank's sorted random answers, with ids that no other rank has.
TopK random_answers(std::int64_t nq, std::int64_t k, std::uint32_t seed, const comm::Communicator& world) {
  TopK answers(nq, k, Metric::l2);
  std::mt19937 random(seed + static_cast<std::uint32_t>(world.rank()));
  std::uniform_real_distribution<float> uniform;
  for (std::int64_t q = 0; q < nq; ++q) {
    const NeighborRow row = answers.row(q);
    std::ranges::generate(row.distances, [&] { return uniform(random); });
    std::ranges::sort(row.distances);
    for (std::size_t i = 0; i < row.neighbors.size(); ++i)
      row.neighbors[i] = static_cast<GlobalId>(i) * world.size() + world.rank();
    // Equal distances keep ascending ids: i grows along the row.
  }
  return answers;
}

/// Bytes that all ranks together must send: every partial answer but the owner's own to the rank that merges
/// it.
double wire_bytes(const std::string& name, std::int64_t nq, std::int64_t k, int n_ranks) {
  const double all = static_cast<double>(nq) * static_cast<double>(merge::record_bytes(k));
  const double others = n_ranks - 1;
  const double scattered = name == "gather" ? all * others / n_ranks : 0;
  return all * others + scattered;
}

Row bench_merge(const std::string& name, const TopK& local, const BenchRun& run,
                const comm::Communicator& world) {
  const std::string resolved =
      name == "auto" ? std::string(merge::choose_merge(world.size(), local.nq(), local.k())) : name;
  const auto strategy = merge::make_merge(resolved);
  TopK merged;
  const double seconds =
      measure_seconds(run.repetitions, world, [&] { merged = strategy->merge(local, world); });
  const bool equal = merged == merge::make_merge("gather")->merge(local, world);
  const bool equal_everywhere = world.min(equal ? 1.0 : 0.0) > 0;
  const double bytes = wire_bytes(resolved, local.nq(), local.k(), world.size());
  return {{"merge", name == resolved ? name : "auto:" + resolved},
          {"ranks", world.size()},
          {"queries", local.nq()},
          {"k", local.k()},
          {"seconds", seconds},
          {"recall", equal_everywhere ? 1.0 : 0.0},
          {"queries/s", static_cast<double>(local.nq()) / seconds},
          {"MB wire", bytes * 1e-6},
          {"GB/s", bytes / seconds * 1e-9}};
}

std::vector<std::string> merge_names(const std::string& wanted) {
  if (wanted != "all") return split(wanted);
  std::vector<std::string> names;
  for (const merge::MergeRow& row : merge::merge_registry()) names.emplace_back(row.name);
  return names;
}

int bench_merges(const cxxopts::ParseResult& options, const BenchRun& run, const comm::Communicator& world) {
  if (!run.json && world.is_root())
    std::printf("random answers, seed %u, median of %d; recall 1 means the bytes of gather\n", run.seed,
                run.repetitions);
  bool first = true;
  for (const std::int64_t nq : counts_of(options, "queries"))
    for (const std::int64_t k : counts_of(options, "k")) {
      const TopK local = random_answers(nq, k, run.seed, world);
      for (const std::string& name : merge_names(options["merge"].as<std::string>())) {
        const Row row = bench_merge(name, local, run, world);
        if (world.is_root()) print_row(row, first, run.json);
        first = false;
      }
    }
  return 0;
}

}  // namespace

int run_bench(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("bench", "kernels|merge [options]",
          "Measures kernels or merges on random data, one row for each shape: warm-up, barrier, time, "
          "slowest rank, "
          "median. Options with LIST take several values, separated by commas.",
          "mpishards bench kernels --rows 100k --dim 128 --queries 1000 -k 10,100 --metric l2,ip\n"
          "  mpirun -n 4 mpishards bench merge --queries 10k -k 10,100");
  const auto text = [](const char* value) { return cxxopts::value<std::string>()->default_value(value); };
  cli.add()("subject", "kernels or merge", text("kernels"), "SUBJECT")(
      "rows", "kernels: base rows of each rank", text("100k"), "LIST")("dim", "kernels: dimensions",
                                                                       text("128"), "LIST")(
      "queries", "queries of a batch", text("1000"), "LIST")("k", "neighbors a query", text("10"), "LIST")(
      "metric", "kernels: l2, ip, cosine", text("l2"), "LIST")("engine", "kernels: auto, cpu or cuda",
                                                               text("auto"), "NAME")(
      "isa", "kernels: instruction set of the CPU engine", text("auto"), "NAME")(
      "threads", "kernels: threads a rank (default: its cores)", cxxopts::value<std::string>(), "N")(
      "merge", "merge: strategies, or all", text("all"), "LIST")(
      "repetitions", "timed runs, after one that warms up", text("5"), "N")(
      "seed", "of the random data", text("1"), "N")("json", "one JSON object a line");
  cli.positional({"subject"});
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;

  BenchRun run;
  run.repetitions = narrow<int>(counts_of(*options, "repetitions").front());
  run.seed = narrow<std::uint32_t>(parse_count((*options)["seed"].as<std::string>()));
  run.json = options->count("json") > 0;
  const auto subject = (*options)["subject"].as<std::string>();
  if (subject == "kernels") return bench_kernels(*options, run, world);
  if (subject == "merge") return bench_merges(*options, run, world);
  throw comm::AgreedError(ErrorKind::usage, "unknown bench '" + subject + "'; known: kernels, merge");
}

}  // namespace mpishards::app

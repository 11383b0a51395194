// The flat CPU engine against FAISS IndexFlat, alternately in one run; one row a case.
#include <cblas.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cxxopts.hpp>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/timer.hpp"
#include "faiss_peer.hpp"
#include "kernels/distance.hpp"
#include "kernels/index.hpp"
#include "measuring.hpp"

namespace mpishards::bench {
namespace {

struct DataSet {
  std::string name;
  std::int64_t d = 0;
  std::vector<float> base;
  std::vector<float> queries;

  MatrixView<const float> base_view() const { return {base.data(), std::int64_t(base.size()) / d, d}; }
  MatrixView<const float> query_view() const { return {queries.data(), std::int64_t(queries.size()) / d, d}; }
};

struct Case {
  const DataSet* data = nullptr;
  std::int64_t nq = 0;
  std::int64_t k = 0;
  Metric metric = Metric::l2;
  int threads = 1;
};

/// One short search of the peer, by which its thread counts are chosen.
struct FaissTry {
  FaissThreads threads;
  double seconds = 0;
};

struct Row {
  Case what;
  double ours_seconds = 0;
  double faiss_seconds = 0;
  std::vector<FaissTry> faiss_tries;  // the fastest first; empty without FAISS
  double roof_flops = 0;
  kernels::SearchCounters counters;
  bool exact = false;
};

/// idx3 images, gzip: 16 bytes of header, then one byte a pixel.
std::vector<float> read_images(const std::string& path, std::int64_t rows, std::int64_t d) {
  const gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return {};
  std::vector<unsigned char> bytes(static_cast<std::size_t>(16 + rows * d));
  const int count = gzread(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  if (count != static_cast<int>(bytes.size())) return {};
  return {bytes.begin() + 16, bytes.end()};
}

DataSet fashion_mnist() {
  const std::string folder = "/usr/share/datasets/fashion-mnist/";
  DataSet data{"fashion-mnist", 784, read_images(folder + "train-images-idx3-ubyte.gz", 60000, 784),
               read_images(folder + "t10k-images-idx3-ubyte.gz", 10000, 784)};
  return data;
}

DataSet normal(const std::string& name, std::int64_t nb, std::int64_t nq, std::int64_t d) {
  std::mt19937 random(7);
  std::normal_distribution<float> values;
  DataSet data{name, d, std::vector<float>(std::size_t(nb * d)), std::vector<float>(std::size_t(nq * d))};
  for (float& value : data.base) value = values(random);
  for (float& value : data.queries) value = values(random);
  return data;
}

/// What OpenBLAS' sgemm reaches on products of this depth that stay in cache: the best of many short ones,
/// for the machine may have other work.
double measure_roof(std::int64_t d, int threads) {
  constexpr blasint kRows = 1024;
  constexpr blasint kCols = 512;
  constexpr int kProducts = 40;
  const auto depth = static_cast<blasint>(d);
  const std::vector<float> a(std::size_t{kRows} * static_cast<std::size_t>(d), 1.0f);
  std::vector<float> c(std::size_t{kRows} * kCols);
  openblas_set_num_threads(threads);
  double best = std::numeric_limits<double>::max();
  for (int product = 0; product < kProducts; ++product) {
    best = std::min(best, seconds([&] {
                      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kRows, kCols, depth, 1.0f,
                                  a.data(), depth, a.data(), depth, 0.0f, c.data(), kCols);
                    }));
  }
  return 2.0 * kRows * kCols * static_cast<double>(d) / best;
}

double exact_distance(const float* a, const float* b, std::int64_t d, Metric metric) {
  return metric == Metric::l2 ? kernels::l2_squared(a, b, d) : kernels::dot_product(a, b, d);
}

/// A few queries against every row in double.
bool is_exact(const Case& what, const TopK& found) {
  const Closer closer(what.metric);
  const auto base = what.data->base_view();
  for (std::int64_t q = 0; q < what.nq; q += std::max<std::int64_t>(1, what.nq / 10)) {
    std::vector<std::pair<float, GlobalId>> all;
    for (std::int64_t row = 0; row < base.rows; ++row)
      all.emplace_back(static_cast<float>(exact_distance(what.data->query_view().row(q), base.row(row),
                                                         base.cols, what.metric)),
                       row);
    std::partial_sort(all.begin(), all.begin() + what.k, all.end(), [&](const auto& a, const auto& b) {
      return closer(a.second, a.first, b.second, b.first);
    });
    for (std::int64_t i = 0; i < what.k; ++i)
      if (found.neighbors()[q * what.k + i] != all[std::size_t(i)].second ||
          found.distances()[q * what.k + i] != all[std::size_t(i)].first)
        return false;
  }
  return true;
}

#if defined(MPISHARDS_BENCH_FAISS)
/// Searches a quarter of the queries once for each way to use the threads.
/// @return fastest first
std::vector<FaissTry> try_thread_choices(FaissPeer& peer, MatrixView<const float> queries, const Case& what) {
  // Every part needs the threshold: else FAISS would be judged by a way of computing that the counted runs
  // avoid.
  const std::int64_t enough = std::max(queries.rows / 4, FaissPeer::blas_threshold() * what.threads);
  const auto some = queries.slice(0, std::min(queries.rows, enough));
  std::vector<FaissTry> tries;
  for (const FaissThreads& threads : faiss_thread_choices(what.threads)) {
    // Wall time, for CPU time does not see what threads gain.
    const double begin = steady_seconds();
    peer.search(some, what.k, threads);
    tries.push_back({threads, steady_seconds() - begin});
  }
  std::stable_sort(tries.begin(), tries.end(),
                   [](const FaissTry& a, const FaissTry& b) { return a.seconds < b.seconds; });
  return tries;
}
#endif

Row measure(const Case& what, int repetitions, const std::string& isa) {
  const auto base = what.data->base_view();
  const auto queries = what.data->query_view().slice(0, what.nq);
  const auto warm_queries = queries.slice(0, std::min<std::int64_t>(what.nq, 64));
  const auto index = kernels::make_index("flat", "cpu", what.metric, {what.threads, isa, 0});
  index->build({DType::f32, reinterpret_cast<const std::byte*>(base.data), base.rows, base.cols}, {});
  TopK out(what.nq, what.k, what.metric);
  TopK warm(warm_queries.rows, what.k, what.metric);
  index->search(warm_queries, {}, warm);
  const kernels::SearchCounters before = index->counters();

  std::vector<double> ours;
  std::vector<double> theirs{0};
  std::vector<FaissTry> tries;
#if defined(MPISHARDS_BENCH_FAISS)
  FaissPeer peer(base, what.metric);
  peer.search(warm_queries, what.k, {1, what.threads, what.threads});
  tries = try_thread_choices(peer, queries, what);
  theirs.clear();
#endif
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    ours.push_back(seconds([&] { index->search(queries, {}, out); }));
#if defined(MPISHARDS_BENCH_FAISS)
    theirs.push_back(seconds([&] { peer.search(queries, what.k, tries.front().threads); }));
#endif
  }
  Row row{what, median(ours), median(theirs), tries, measure_roof(base.cols, what.threads), index->counters(),
          false};
  row.counters.candidates = (row.counters.candidates - before.candidates) / repetitions;
  row.counters.widened = (row.counters.widened - before.widened) / repetitions;
  row.exact = is_exact(what, out);
  return row;
}

double flops(const Row& row) {
  const double nb = static_cast<double>(row.what.data->base_view().rows);
  return 2 * nb * static_cast<double>(row.what.nq) * static_cast<double>(row.what.data->d) / row.ours_seconds;
}

void print_head() {
  std::printf("%-16s %8s %5s %6s %5s %-6s %3s | %8s %8s %6s %14s | %8s %7s | %8s %7s %s\n", "case", "n", "d",
              "nq", "k", "metric", "thr", "ours s", "faiss s", "ratio", "faiss omp/blas", "GFLOP/s",
              "of roof", "cand/q", "widened", "exact");
}

std::string chosen_threads(const Row& row) {
  return row.faiss_tries.empty() ? "no FAISS" : to_string(row.faiss_tries.front().threads);
}

void print(const Row& row) {
  std::printf(
      "%-16s %8lld %5lld %6lld %5lld %-6s %3d | %8.3f %8.3f %6.2f %14s | %8.1f %6.1f%% | %8.1f %7lld %s\n",
      row.what.data->name.c_str(), static_cast<long long>(row.what.data->base_view().rows),
      static_cast<long long>(row.what.data->d), static_cast<long long>(row.what.nq),
      static_cast<long long>(row.what.k), std::string(to_string(row.what.metric)).c_str(), row.what.threads,
      row.ours_seconds, row.faiss_seconds, row.faiss_seconds / row.ours_seconds, chosen_threads(row).c_str(),
      flops(row) / 1e9, 100 * flops(row) / row.roof_flops,
      static_cast<double>(row.counters.candidates) / static_cast<double>(row.what.nq),
      static_cast<long long>(row.counters.widened), row.exact ? "yes" : "NO");
  std::fflush(stdout);
}

nlohmann::json to_json(const FaissTry& tried) {
  return {{"searches", tried.threads.searches},
          {"omp_threads", tried.threads.omp},
          {"blas_threads", tried.threads.blas},
          {"seconds", tried.seconds}};
}

nlohmann::json to_json(const Row& row) {
  nlohmann::json tries = nlohmann::json::array();
  for (const FaissTry& tried : row.faiss_tries) tries.push_back(to_json(tried));
  return {{"case", row.what.data->name},
          {"n", row.what.data->base_view().rows},
          {"d", row.what.data->d},
          {"nq", row.what.nq},
          {"k", row.what.k},
          {"metric", std::string(to_string(row.what.metric))},
          {"threads", row.what.threads},
          {"ours_seconds", row.ours_seconds},
          {"faiss_seconds", row.faiss_seconds},
          {"faiss_threads", chosen_threads(row)},
          {"faiss_tries", tries},
          {"flops", flops(row)},
          {"roof_flops", row.roof_flops},
          {"candidates_per_query",
           static_cast<double>(row.counters.candidates) / static_cast<double>(row.what.nq)},
          {"widened", row.counters.widened},
          {"exact", row.exact}};
}

std::vector<DataSet> make_data(const std::string& only, bool quick) {
  std::vector<DataSet> all;
  if (only.empty() || only == "fashion-mnist") {
    DataSet data = fashion_mnist();
    if (data.base.empty() || data.queries.empty())
      std::printf("fashion-mnist skipped: Debian's package dataset-fashion-mnist is not installed\n");
    else
      all.push_back(std::move(data));
  }
  if (only.empty() || only == "normal-128")
    all.push_back(normal("normal-128", quick ? 100'000 : 1'000'000, 10'000, 128));
  return all;
}

int run(int argc, char** argv) {
  cxxopts::Options options("cpu_flat",
                           "The flat CPU engine against FAISS IndexFlat; ratio = faiss s / ours s.");
  options.add_options()("case", "fashion-mnist or normal-128; default both",
                        cxxopts::value<std::string>()->default_value(""));
  options.add_options()("k,neighbors", "neighbors",
                        cxxopts::value<std::vector<std::int64_t>>()->default_value("10,100"));
  options.add_options()("metric", "l2, ip",
                        cxxopts::value<std::vector<std::string>>()->default_value("l2,ip"));
  options.add_options()("threads", "thread counts", cxxopts::value<std::vector<int>>()->default_value("1,2"));
  options.add_options()("nq", "queries", cxxopts::value<std::int64_t>()->default_value("2000"));
  options.add_options()("repetitions", "of which the median counts",
                        cxxopts::value<int>()->default_value("3"));
  options.add_options()("isa", "CPU kernel family", cxxopts::value<std::string>()->default_value("auto"));
  options.add_options()("quick", "smaller data, one repetition");
  options.add_options()("json", "also write rows to this file", cxxopts::value<std::string>());
  options.add_options()("cpu-clock", "CPU seconds instead of wall seconds; for one thread on a busy machine");
  options.add_options()("h,help", "this text");
  const auto flags = options.parse(argc, argv);
  if (flags.count("help") > 0) {
    std::printf("%s\n", options.help().c_str());
    return 0;
  }
  use_cpu_clock = flags.count("cpu-clock") > 0;
  const bool quick = flags.count("quick") > 0;
  const int repetitions = quick ? 1 : flags["repetitions"].as<int>();
  const std::vector<DataSet> data = make_data(flags["case"].as<std::string>(), quick);
  nlohmann::json rows = nlohmann::json::array();
  bool all_exact = true;
  print_head();
  for (const DataSet& set : data)
    for (const std::string& metric : flags["metric"].as<std::vector<std::string>>())
      for (const std::int64_t k : flags["neighbors"].as<std::vector<std::int64_t>>())
        for (const int threads : flags["threads"].as<std::vector<int>>()) {
          const std::int64_t nq = std::min(flags["nq"].as<std::int64_t>(), set.query_view().rows);
          const Row row = measure({&set, nq, k, metric_from_string(metric), threads}, repetitions,
                                  flags["isa"].as<std::string>());
          print(row);
          rows.push_back(to_json(row));
          all_exact = all_exact && row.exact;
        }
  if (flags.count("json") > 0) std::ofstream(flags["json"].as<std::string>()) << rows.dump(2) << '\n';
  return all_exact ? 0 : 1;
}

}  // namespace
}  // namespace mpishards::bench

int main(int argc, char** argv) {
  mpishards::bench::let_idle_threads_sleep(argv);
  return mpishards::bench::run(argc, argv);
}

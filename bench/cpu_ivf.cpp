// The inverted file on the CPU against FAISS IndexIVFFlat: same centroids, same lists, same probes,
// alternately in one run; one row a number of probed lists.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cxxopts.hpp>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "faiss_peer.hpp"
#include "kernels/index.hpp"
#include "measuring.hpp"

namespace mpishards::bench {
namespace {

struct Settings {
  std::int64_t nb = 0;
  std::int64_t nq = 0;
  std::int64_t d = 0;
  std::int64_t nlist = 0;
  std::int64_t k = 0;
  std::int64_t clusters = 0;
  float spread = 0;
  Metric metric = Metric::l2;
  int threads = 1;
  int repetitions = 1;
  std::string isa;
};

struct Row {
  std::int64_t nprobe = 0;
  std::vector<double> ours;  // seconds, run by run
  std::vector<double> faiss;
  kernels::SearchCounters counters;  // of one search
  double recall = 0;
  std::int64_t different = 0;  // places whose distances are not those of FAISS
};

/// Normal vectors around normal centres: as many rows a cluster as chance gives it.
std::vector<float> clustered(std::int64_t rows, const Settings& what, unsigned seed) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> centres(static_cast<std::size_t>(what.clusters * what.d));
  for (float& value : centres) value = normal(random);
  random.seed(seed);
  std::uniform_int_distribution<std::int64_t> cluster(0, what.clusters - 1);
  std::vector<float> out(static_cast<std::size_t>(rows * what.d));
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* const centre = centres.data() + cluster(random) * what.d;
    for (std::int64_t i = 0; i < what.d; ++i)
      out[static_cast<std::size_t>(row * what.d + i)] = centre[i] + what.spread * normal(random);
  }
  return out;
}

TypedView typed(const std::vector<float>& rows, std::int64_t d) {
  return {DType::f32, reinterpret_cast<const std::byte*>(rows.data()), std::int64_t(rows.size()) / d, d};
}

std::vector<float> gather(const std::vector<float>& base, const std::vector<std::int64_t>& rows,
                          std::int64_t d) {
  std::vector<float> out(base.size());
  float* row = out.data();
  for (const std::int64_t from : rows) row = std::copy_n(base.data() + from * d, d, row);
  return out;
}

/// Places where the distances differ by more than float32 sums may: there the two found other neighbors.
std::int64_t count_different(const TopK& ours, const float* theirs) {
  constexpr float kFloatSums = 1e-5f;
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < ours.nq() * ours.k(); ++i) {
    const float found = ours.distances()[i];
    if (ours.neighbors()[i] == kNoNeighbor) continue;  // FAISS pads with another value
    different += std::abs(found - theirs[i]) > kFloatSums * std::abs(found) ? 1 : 0;
  }
  return different;
}

/// Part of the true neighbors that were found.
double recall(const TopK& found, const TopK& truth) {
  std::int64_t hits = 0;
  for (std::int64_t q = 0; q < truth.nq(); ++q)
    for (const GlobalId id : truth.row(q).neighbors) hits += std::ranges::count(found.row(q).neighbors, id);
  return static_cast<double>(hits) / static_cast<double>(truth.nq() * truth.k());
}

double ratio(const Row& row) {
  std::vector<double> pairs;
  for (std::size_t i = 0; i < row.ours.size(); ++i) pairs.push_back(row.faiss[i] / row.ours[i]);
  return median(pairs);
}

double flops(const Row& row, const Settings& what) {
  return 2.0 * static_cast<double>(row.counters.distances * what.d) / median(row.ours);
}

void print(const Row& row, const Settings& what) {
  const auto per_query = [&](std::int64_t count) {
    return static_cast<double>(count) / static_cast<double>(what.nq);
  };
  std::printf("%6lld %7.4f | %8.3f %8.3f %6.2f | %9.0f %8.1f | %8.0f %7.1f %8.1f %7lld | %lld\n",
              static_cast<long long>(row.nprobe), row.recall, median(row.ours), median(row.faiss), ratio(row),
              static_cast<double>(what.nq) / median(row.ours), flops(row, what) / 1e9,
              per_query(row.counters.distances), per_query(row.counters.candidates),
              per_query(row.counters.reranked), static_cast<long long>(row.counters.widened),
              static_cast<long long>(row.different));
  std::fflush(stdout);
}

nlohmann::json to_json(const Row& row, const Settings& what) {
  return {{"nb", what.nb},
          {"nq", what.nq},
          {"d", what.d},
          {"nlist", what.nlist},
          {"k", what.k},
          {"metric", std::string(to_string(what.metric))},
          {"threads", what.threads},
          {"nprobe", row.nprobe},
          {"recall", row.recall},
          {"ours_seconds", row.ours},
          {"faiss_seconds", row.faiss},
          {"ratio", ratio(row)},
          {"flops", flops(row, what)},
          {"different", row.different}};
}

Settings read_settings(const cxxopts::ParseResult& flags) {
  const bool quick = flags.count("quick") > 0;
  return {.nb = quick ? 100'000 : flags["nb"].as<std::int64_t>(),
          .nq = quick ? 2'000 : flags["nq"].as<std::int64_t>(),
          .d = flags["dim"].as<std::int64_t>(),
          .nlist = quick ? 128 : flags["nlist"].as<std::int64_t>(),
          .k = flags["neighbors"].as<std::int64_t>(),
          .clusters = flags["clusters"].as<std::int64_t>(),
          .spread = flags["spread"].as<float>(),
          .metric = metric_from_string(flags["metric"].as<std::string>()),
          .threads = flags["threads"].as<int>(),
          .repetitions = quick ? 1 : flags["repetitions"].as<int>(),
          .isa = flags["isa"].as<std::string>()};
}

/// Both over the same data; searches them.
class Bench {
 public:
  explicit Bench(const Settings& what) : what_(what), queries_(clustered(what.nq, what, 9)) {
    const std::vector<float> base = clustered(what.nb, what, 8);
    const double begin = now_seconds();
    peer_.emplace(MatrixView<const float>{base.data(), what.nb, what.d}, what.nlist, what.metric,
                  what.threads);
    std::printf("FAISS: trained and filled in %.1f s\n", now_seconds() - begin);
    ids_ = peer_->rows_by_list(starts_);
    rows_ = gather(base, ids_, what.d);
    index_ = kernels::make_index("ivf", "cpu", what.metric, {what.threads, what.isa, 0});
    index_->build(typed(rows_, what.d), {0, ids_}, {0, starts_});
    truth_ = find_truth();
  }

  Row measure(std::int64_t nprobe) {
    Row row;
    row.nprobe = nprobe;
    const std::vector<std::int32_t> lists = peer_->choose(queries(), nprobe);
    const kernels::Probes probes{lists.data(), what_.nq, nprobe};
    TopK found(what_.nq, what_.k, what_.metric);
    index_->search(queries(), probes, {}, found);  // warm
    const kernels::SearchCounters before = index_->counters();
    for (int repetition = 0; repetition < what_.repetitions; ++repetition) {
      row.ours.push_back(seconds([&] { index_->search(queries(), probes, {}, found); }));
      row.faiss.push_back(seconds([&] { peer_->search(queries(), what_.k, what_.threads); }));
    }
    const kernels::SearchCounters& after = index_->counters();
    row.counters.distances = (after.distances - before.distances) / what_.repetitions;
    row.counters.candidates = (after.candidates - before.candidates) / what_.repetitions;
    row.counters.reranked = (after.reranked - before.reranked) / what_.repetitions;
    row.counters.widened = (after.widened - before.widened) / what_.repetitions;
    row.recall = recall(found, truth_);
    row.different = count_different(found, peer_->distances());
    return row;
  }

 private:
  MatrixView<const float> queries() const { return {queries_.data(), what_.nq, what_.d}; }

  /// Of the first queries, in all lists.
  TopK find_truth() const {
    const std::int64_t nq = std::min<std::int64_t>(what_.nq, 500);
    const auto flat = kernels::make_index("flat", "cpu", what_.metric, {what_.threads, what_.isa, 0});
    flat->build(typed(rows_, what_.d), {0, ids_});
    TopK truth(nq, what_.k, what_.metric);
    flat->search(queries().slice(0, nq), {}, truth);
    return truth;
  }

  Settings what_;
  std::vector<float> queries_;
  std::optional<FaissIvfPeer> peer_;
  std::vector<std::int64_t> starts_;
  std::vector<GlobalId> ids_;
  std::vector<float> rows_;  // in list order
  std::unique_ptr<kernels::Index> index_;
  TopK truth_;
};

int run(int argc, char** argv) {
  cxxopts::Options options(
      "cpu_ivf",
      "The inverted file on the CPU against FAISS IndexIVFFlat with the same lists and the same "
      "probes; ratio = median of faiss s / ours s.");
  options.add_options()("nb", "rows", cxxopts::value<std::int64_t>()->default_value("1000000"));
  options.add_options()("nq", "queries", cxxopts::value<std::int64_t>()->default_value("10000"));
  options.add_options()("d,dim", "dimensions", cxxopts::value<std::int64_t>()->default_value("96"));
  options.add_options()("clusters", "of the data", cxxopts::value<std::int64_t>()->default_value("10000"));
  options.add_options()("spread", "deviation inside a cluster; the centres' is 1",
                        cxxopts::value<float>()->default_value("0.8"));
  options.add_options()("nlist", "lists", cxxopts::value<std::int64_t>()->default_value("1024"));
  options.add_options()("nprobe", "lists a query looks into",
                        cxxopts::value<std::vector<std::int64_t>>()->default_value("4,8,16,32"));
  options.add_options()("k,neighbors", "neighbors", cxxopts::value<std::int64_t>()->default_value("10"));
  options.add_options()("metric", "l2, ip", cxxopts::value<std::string>()->default_value("l2"));
  options.add_options()("threads", "threads of each", cxxopts::value<int>()->default_value("2"));
  options.add_options()("repetitions", "pairs of which the median counts",
                        cxxopts::value<int>()->default_value("5"));
  options.add_options()("isa", "CPU kernel family", cxxopts::value<std::string>()->default_value("auto"));
  options.add_options()("quick", "100000 rows in 128 lists, 2000 queries, once");
  options.add_options()("json", "also write rows to this file", cxxopts::value<std::string>());
  options.add_options()("cpu-clock", "CPU seconds instead of wall seconds; for one thread on a busy machine");
  options.add_options()("h,help", "this text");
  const auto flags = options.parse(argc, argv);
  if (flags.count("help") > 0) {
    std::printf("%s\n", options.help().c_str());
    return 0;
  }
  use_cpu_clock = flags.count("cpu-clock") > 0;
  const Settings what = read_settings(flags);
  Bench bench(what);
  std::printf("%lld x %lld, %lld lists, %lld queries, k = %lld, %s, %d threads\n",
              static_cast<long long>(what.nb), static_cast<long long>(what.d),
              static_cast<long long>(what.nlist), static_cast<long long>(what.nq),
              static_cast<long long>(what.k), std::string(to_string(what.metric)).c_str(), what.threads);
  std::printf("%6s %7s | %8s %8s %6s | %9s %8s | %8s %7s %8s %7s | %s\n", "nprobe", "recall", "ours s",
              "faiss s", "ratio", "queries/s", "GFLOP/s", "rows/q", "cand/q", "rerank/q", "widened",
              "different");
  nlohmann::json rows = nlohmann::json::array();
  std::int64_t different = 0;
  for (const std::int64_t nprobe : flags["nprobe"].as<std::vector<std::int64_t>>()) {
    const Row row = bench.measure(nprobe);
    print(row, what);
    rows.push_back(to_json(row, what));
    different += row.different;
  }
  if (flags.count("json") > 0) std::ofstream(flags["json"].as<std::string>()) << rows.dump(2) << '\n';
  return different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mpishards::bench

int main(int argc, char** argv) {
  mpishards::bench::let_idle_threads_sleep(argv);
  return mpishards::bench::run(argc, argv);
}

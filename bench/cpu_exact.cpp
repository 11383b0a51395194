// The exact CPU engine, or with --debian-faiss the FAISS of the system, as a child of cpu_exact.py: one JSON
// request a line, one JSON answer a line.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sys/mman.h>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "core/topk.hpp"
#include "kernels/cpu/row_cells.hpp"
#include "kernels/distance.hpp"
#include "kernels/index.hpp"
#include "kernels/roof.hpp"
#if defined(MPISHARDS_BENCH_FAISS)
#include "faiss_peer.hpp"
#endif

namespace mpishards::bench {
namespace {

using nlohmann::json;

constexpr double kRoofSeconds = 0.5;

/// What `open` names: data in memory, and what is asked of them.
struct Case {
  Matrix base;
  Matrix queries;
  std::int64_t k = 0;
  Metric metric = Metric::l2;
  int threads = 1;
  std::string isa;

  MatrixView<const float> query_view() const { return queries.view().as<const float>(); }
};

Matrix read_raw(const std::string& path, DType dtype, std::int64_t rows, std::int64_t d) {
  Matrix matrix(dtype, rows, d);
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(matrix.data()), static_cast<std::streamsize>(matrix.bytes())))
    throw Error(ErrorKind::io, path + " is shorter than " + std::to_string(matrix.bytes()) + " bytes");
  return matrix;
}

Case case_of(const json& request) {
  const auto d = request.at("d").get<std::int64_t>();
  return {read_raw(request.at("base"), dtype_from_string(request.at("dtype").get<std::string>()),
                   request.at("rows"), d),
          read_raw(request.at("queries"), DType::f32, request.at("nq"), d),
          request.at("k"),
          metric_from_string(request.at("metric").get<std::string>()),
          request.at("threads"),
          request.value("isa", "auto")};
}

template <class Step>
double seconds(Step step) {
  const double begin = steady_seconds();
  step();
  return steady_seconds() - begin;
}

/// One side of the comparison.
class Contestant {
 public:
  virtual ~Contestant() = default;
  /// Makes the index and searches once, so that what is measured afterwards is search alone.
  virtual json open(Case what) = 0;
  virtual void search() = 0;
  /// What is known after the searches. @param sample  queries whose answers are verified
  virtual json close(std::int64_t sample, unsigned seed) = 0;
};

#if defined(__x86_64__)
/// The 64 bytes that LDTILECFG reads: all eight tiles are whole.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
// Static: GCC 12 believes that the instruction reads 8 bytes, and leaves the others of a local one unwritten.
constexpr TileConfig kTileConfig;

constexpr int kTileRounds = 20'000;
constexpr int kTileSums = 6;  // enough to hide a product's latency; 6 and 7 are operands

/// Products of zeros, which take as long as others. @return operations
__attribute__((target("amx-tile,amx-bf16"))) double burst_bf16() {
  _tile_loadconfig(&kTileConfig);
  for (int round = 0; round < kTileRounds; ++round) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  _tile_release();
  return 2.0 * 16 * 16 * 32 * kTileSums * kTileRounds;
}

__attribute__((target("amx-tile,amx-int8"))) double burst_bytes() {
  _tile_loadconfig(&kTileConfig);
  for (int round = 0; round < kTileRounds; ++round) {
    _tile_dpbssd(0, 6, 7);
    _tile_dpbssd(1, 6, 7);
    _tile_dpbssd(2, 6, 7);
    _tile_dpbssd(3, 6, 7);
    _tile_dpbssd(4, 6, 7);
    _tile_dpbssd(5, 6, 7);
  }
  _tile_release();
  return 2.0 * 16 * 16 * 64 * kTileSums * kTileRounds;
}
#endif

/// Sum over threads of each one's best rate, all running together: the machine may have other work.
double best_rate(int threads, double (*burst)()) {
  const double start = steady_seconds();
  double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
  {
    double best = 0;
    do {
      double operations = 0;
      const double taken = seconds([&] { operations = burst(); });
      best = std::max(best, operations / taken);
    } while (steady_seconds() - start < kRoofSeconds);
    total += best;
  }
  return total;
}

/// What is stored here is computed, whatever the optimiser thinks of it.
volatile std::uint64_t sink = 0;

/// Bytes a second that the threads together read from memory: the best of several passes over more than
/// caches hold.
double measure_read_bandwidth(int threads) {
  constexpr std::size_t kBytes = std::size_t{1} << 29U;
  constexpr std::size_t kHugePage = std::size_t{1} << 21U;
  constexpr std::int64_t kStep = 8;
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(kHugePage, kBytes), std::free);
  if (memory == nullptr) throw std::bad_alloc();
  madvise(memory.get(), kBytes, MADV_HUGEPAGE);
  std::memset(memory.get(), 1, kBytes);
  const auto* const words = static_cast<const std::uint64_t*>(memory.get());
  constexpr auto kWords = static_cast<std::int64_t>(kBytes / sizeof(std::uint64_t));
  double best = 0;
  const double start = steady_seconds();
  do {
    const double taken = seconds([&] {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
      for (int thread = 0; thread < threads; ++thread) {
        const std::int64_t end = kWords / kStep * (thread + 1) / threads * kStep;
        std::uint64_t sums[kStep] = {};
        for (std::int64_t at = kWords / kStep * thread / threads * kStep; at < end; at += kStep)
          for (std::int64_t i = 0; i < kStep; ++i) sums[i] ^= words[at + i];
        for (const std::uint64_t sum : sums) sink = sum;
      }
    });
    best = std::max(best, static_cast<double>(kBytes) / taken);
  } while (steady_seconds() - start < kRoofSeconds);
  return best;
}

/// What these threads can do at most; 0 where the machine lacks the instructions.
json measure_roofs(int threads) {
  double bf16 = 0;
  double bytes = 0;
#if defined(__x86_64__)
  const std::vector<std::string> isas = kernels::isa_names();
  if (std::ranges::find(isas, "amx") != isas.end()) {
    bf16 = best_rate(threads, burst_bf16);
    bytes = best_rate(threads, burst_bytes);
  }
#endif
  return {{"float32", kernels::measure_peak_flops(threads, kRoofSeconds)},
          {"amx bf16", bf16},
          {"amx bytes", bytes},
          {"memory", measure_read_bandwidth(threads)}};
}

/// One query against every row by the defined sums.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// Without the instruction each fused multiply-add is a call of the library; the bits are the same.
__attribute__((target_clones("default", "arch=haswell"), flatten))
#endif
void exact_distances(TypedView base, const float* query, Metric metric, float* row_floats, float* out) {
  for (std::int64_t row = 0; row < base.rows; ++row) {
    const float* x = row_floats;
    if (base.dtype == DType::f32)
      x = base.as<const float>().row(row);
    else
      to_float32(base.dtype, base.row(row), base.cols, row_floats);
    out[row] = static_cast<float>(metric == Metric::l2 ? kernels::l2_squared(query, x, base.cols)
                                                       : kernels::dot_product(query, x, base.cols));
  }
}

/// @return empty, or where the answer differs first
std::string difference(const Case& what, const TopK& found, std::int64_t q) {
  const std::int64_t rows = what.base.rows();
  std::vector<float> distances(static_cast<std::size_t>(rows));
  std::vector<float> row_floats(static_cast<std::size_t>(what.base.cols()));
  exact_distances(what.base.view(), what.query_view().row(q), what.metric, row_floats.data(),
                  distances.data());
  std::vector<GlobalId> order(static_cast<std::size_t>(rows));
  for (std::int64_t row = 0; row < rows; ++row) order[static_cast<std::size_t>(row)] = row;
  const Closer closer(what.metric);
  const std::int64_t k = std::min(what.k, rows);
  std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](GlobalId a, GlobalId b) {
    return closer(a, distances[static_cast<std::size_t>(a)], b, distances[static_cast<std::size_t>(b)]);
  });
  const ConstNeighborRow row = found.row(q);
  for (std::int64_t i = 0; i < k; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const float expected = distances[static_cast<std::size_t>(order[at])];
    if (row.neighbors[at] != order[at] || row.distances[at] != expected)
      return "query " + std::to_string(q) + ", place " + std::to_string(i) + ": row " +
             std::to_string(row.neighbors[at]) + " at " + std::to_string(row.distances[at]) +
             ", expected row " + std::to_string(order[at]) + " at " + std::to_string(expected);
  }
  return "";
}

/// A random sample of queries, all k ids and distances of each.
json verify(const Case& what, const TopK& found, std::int64_t sample, unsigned seed) {
  std::vector<std::int64_t> queries(static_cast<std::size_t>(what.queries.rows()));
  for (std::size_t q = 0; q < queries.size(); ++q) queries[q] = static_cast<std::int64_t>(q);
  std::mt19937 random(seed);
  std::shuffle(queries.begin(), queries.end(), random);
  queries.resize(std::min(queries.size(), static_cast<std::size_t>(std::max<std::int64_t>(sample, 1))));
  std::string first;
#pragma omp parallel for num_threads(what.threads) schedule(dynamic, 1)
  for (const std::int64_t q : queries) {
    const std::string different = difference(what, found, q);
#pragma omp critical
    if (first.empty()) first = different;
  }
  return {{"exact", first.empty()}, {"checked", queries.size()}, {"difference", first}};
}

class Engine final : public Contestant {
 public:
  json open(Case what) override {
    index_.reset();  // frees the index before its rows
    case_ = std::move(what);
    index_ = kernels::make_index("flat", "cpu", case_.metric, {case_.threads, case_.isa});
    const double build_seconds = seconds([&] { index_->build(case_.base.view(), {}); });
    json answer = pack();
    answer["build_seconds"] = build_seconds;
    answer["description"] = index_->description();
    out_ = TopK(case_.queries.rows(), case_.k, case_.metric);
    answer["divide_seconds"] = divide();
    before_ = index_->counters();
    return answer;
  }

  void search() override { index_->search(case_.query_view(), {}, out_); }

  json close(std::int64_t sample, unsigned seed) override {
    const kernels::SearchCounters& now = index_->counters();
    const auto queries = static_cast<double>(std::max<std::int64_t>(now.queries - before_.queries, 1));
    const auto per_query = [&](std::int64_t after, std::int64_t before) {
      return static_cast<double>(after - before) / queries;
    };
    const auto nq = static_cast<double>(case_.queries.rows());
    json answer = verify(case_, out_, sample, seed);
    answer["candidates_per_query"] = per_query(now.candidates, before_.candidates);
    answer["reranked_per_query"] = per_query(now.reranked, before_.reranked);
    answer["screened_per_query"] = per_query(now.distances, before_.distances);
    answer["widened"] = per_query(now.widened, before_.widened) * nq;
    answer["index_bytes"] = index_->bytes();
    answer["roofs"] = measure_roofs(case_.threads);
    return answer;
  }

 private:
  /// Searches a few queries again and again until the engine has packed its rows, which it does in the search
  /// that makes it worth while. An engine that has no packed form never does.
  json pack() {
    constexpr std::int64_t kFewQueries = 8;
    constexpr int kMostSearches = 6;
    const auto few = case_.query_view().slice(0, std::min(case_.queries.rows(), kFewQueries));
    // Where the case has fewer, its queries are repeated.
    std::vector<float> rows;
    for (std::int64_t q = 0; q < kFewQueries; ++q)
      rows.insert(rows.end(), few.row(q % few.rows), few.row(q % few.rows) + few.cols);
    TopK out(kFewQueries, case_.k, case_.metric);
    const auto timed = [&] {
      return seconds([&] { index_->search({rows.data(), kFewQueries, few.cols}, {}, out); });
    };
    timed();
    const std::size_t values =
        static_cast<std::size_t>(case_.base.rows()) * static_cast<std::size_t>(case_.base.cols());
    const std::size_t bytes = index_->bytes();
    for (int tried = 0; tried < kMostSearches; ++tried) {
      const double first = timed();
      const std::size_t grown = index_->bytes() - bytes;
      if (grown >= values)  // at least a byte a value
        return {{"packed_bytes", grown}, {"pack_seconds", std::max(0.0, first - timed())}};
    }
    return {{"packed_bytes", 0}, {"pack_seconds", 0.0}};
  }

  /// Searches, to warm up and until the engine has seen as many queries as make it try to divide its rows
  /// into cells. @return what the slowest search took longer than one more
  double divide() {
    const std::int64_t worth =
        kernels::kQueriesWorthCell * kernels::cpu::RowCells::cells_for(case_.base.rows());
    double slowest = 0;
    std::int64_t seen = 0;
    do {
      slowest = std::max(slowest, seconds([&] { search(); }));
      seen += case_.queries.rows();
    } while (case_.queries.rows() >= kernels::kFewPlaneQueries && seen < worth);
    return std::max(0.0, slowest - seconds([&] { search(); }));
  }

  Case case_;
  std::unique_ptr<kernels::Index> index_;
  TopK out_;
  kernels::SearchCounters before_;
};

#if defined(MPISHARDS_BENCH_FAISS)
class DebianFaiss final : public Contestant {
 public:
  json open(Case what) override {
    peer_.reset();
    case_ = std::move(what);
    case_.base = to_float32(std::move(case_.base));
    const double build_seconds = seconds(
        [&] { peer_ = std::make_unique<FaissPeer>(case_.base.view().as<const float>(), case_.metric); });
    choose_threads();
    search();
    return {{"build_seconds", build_seconds}, {"description", "omp/blas " + to_string(threads_)}};
  }

  void search() override { peer_->search(case_.query_view(), case_.k, threads_); }

  json close(std::int64_t, unsigned) override { return json::object(); }

 private:
  /// Each way for a while with some of the queries; the best search of each counts, for other work must not
  /// choose.
  void choose_threads() {
    constexpr std::int64_t kEnough = 512;
    constexpr double kTrySeconds = 0.25;
    const auto queries = case_.query_view();
    const auto some = queries.slice(0, std::min(queries.rows, kEnough));
    double best = 0;
    for (const FaissThreads& threads : faiss_thread_choices(case_.threads)) {
      const double begin = steady_seconds();
      do {
        const double taken = seconds([&] { peer_->search(some, case_.k, threads); });
        if (best == 0 || taken < best) {
          best = taken;
          threads_ = threads;
        }
      } while (steady_seconds() - begin < kTrySeconds);
    }
  }

  Case case_;
  std::unique_ptr<FaissPeer> peer_;
  FaissThreads threads_;
};
#endif

/// Searches at least once, and on until `at_least` seconds have passed. @return seconds of one search
double mean_seconds(Contestant& contestant, double at_least) {
  const double begin = steady_seconds();
  int searches = 0;
  do {
    contestant.search();
    ++searches;
  } while (steady_seconds() - begin < at_least);
  return (steady_seconds() - begin) / searches;
}

json answer_to(const json& request, Contestant& contestant) {
  const auto what = request.at("do").get<std::string>();
  if (what == "open") return contestant.open(case_of(request));
  if (what == "search") return {{"seconds", mean_seconds(contestant, request.at("at_least"))}};
  if (what == "close") return contestant.close(request.at("sample"), request.at("seed"));
  throw Error(ErrorKind::usage, "unknown request '" + what + "'; known: open, search, close");
}

std::unique_ptr<Contestant> make_contestant(int argc, char** argv) {
  if (argc == 1) return std::make_unique<Engine>();
#if defined(MPISHARDS_BENCH_FAISS)
  if (argc == 2 && std::strcmp(argv[1], "--debian-faiss") == 0) return std::make_unique<DebianFaiss>();
  std::fprintf(stderr, "usage: %s [--debian-faiss], as a child of cpu_exact.py\n", argv[0]);
#else
  std::fprintf(stderr, "usage: %s, as a child of cpu_exact.py; built without FAISS (libfaiss-dev)\n",
               argv[0]);
#endif
  return nullptr;
}

int run(int argc, char** argv) {
  const auto contestant = make_contestant(argc, argv);
  if (contestant == nullptr) return exit_code(ErrorKind::usage);
  std::string line;
  while (std::getline(std::cin, line)) {
    json answer;
    try {
      answer = answer_to(json::parse(line), *contestant);
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace mpishards::bench

int main(int argc, char** argv) {
  return mpishards::bench::run(argc, argv);
}

// The CUDA engine's flat index on one device, beside what cuBLASLt reaches at the same depth in the same run.
//
//   build/release/bench/cuda_flat                      all cases
//   build/release/bench/cuda_flat --cases small --json rows.jsonl
//
// Data are random and real-valued: products of zeros run faster than those of users. What is timed is
// Index::search: queries from host memory, answers in host memory.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cxxopts.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "core/half.hpp"
#include "kernels/cuda/device_buffer.hpp"
#include "kernels/cuda/flat.hpp"
#include "kernels/cuda/half_product.hpp"
#include "kernels/devices.hpp"
#include "kernels/distance.hpp"
#include "measuring.hpp"

namespace mpishards::bench {
namespace {

struct Case {
  const char* name;
  std::int64_t nb;
  std::int64_t d;
  std::int64_t nq;
  std::int64_t k;
  Metric metric;
  DType dtype;
  double asked;  // queries/s, 0: none
};

constexpr Case kSmall[] = {
    {"200k", 200000, 128, 2000, 10, Metric::l2, DType::f32, 0},
    {"bytes", 60000, 784, 2000, 10, Metric::l2, DType::u8, 0},
};
constexpr Case kAll[] = {
    {"1M", 1000000, 128, 10000, 10, Metric::l2, DType::f32, 2.1e6},
    {"1M", 1000000, 128, 10000, 10, Metric::ip, DType::f32, 0},
    {"1M", 1000000, 128, 10000, 10, Metric::cosine, DType::f32, 0},
    {"1M", 1000000, 128, 10000, 100, Metric::l2, DType::f32, 1.6e6},
    {"1M", 1000000, 128, 1, 10, Metric::l2, DType::f32, 0},
    {"1M", 1000000, 128, 100, 10, Metric::l2, DType::f32, 0},
    {"10M", 10000000, 96, 10000, 10, Metric::l2, DType::f32, 288e3},
    {"wide", 2000000, 1024, 10000, 10, Metric::l2, DType::f32, 0},
    {"bytes", 60000, 784, 10000, 10, Metric::l2, DType::u8, 3.5e6},
};

/// Number i of a fixed sequence of well mixed ones.
std::uint64_t mixed(std::uint64_t i) {
  std::uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Normal numbers by the sum of eight uniform ones; bytes for u8. The same for any number of threads.
Matrix random_matrix(DType dtype, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Matrix matrix(dtype, rows, cols);
  const std::int64_t n = rows * cols;
  const auto n_threads = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> threads;
  for (std::int64_t t = 0; t < n_threads; ++t)
    threads.emplace_back([&, t] {
      for (std::int64_t i = n * t / n_threads; i < n * (t + 1) / n_threads; ++i) {
        const std::uint64_t bits = mixed(seed * 0x100000000000u + static_cast<std::uint64_t>(i));
        int sum = 0;
        for (int byte = 0; byte < 8; ++byte) sum += static_cast<int>(bits >> (8 * byte) & 0xff);
        if (dtype == DType::u8)
          matrix.data()[i] = static_cast<std::byte>(bits & 0xff);
        else
          // Eight bytes have mean 1020 and variance 8 * 5461.25; the last bits make the value real.
          matrix.as<float>().data[i] =
              (static_cast<float>(sum) - 1020.0f + static_cast<float>(bits & 0xffff) * 0x1p-16f) / 209.0f;
      }
    });
  for (std::thread& thread : threads) thread.join();
  return matrix;
}

float value_at(const Matrix& matrix, std::int64_t i) {
  if (matrix.dtype() == DType::u8) return static_cast<float>(std::to_integer<int>(matrix.data()[i]));
  return reinterpret_cast<const float*>(matrix.data())[i];
}

/// Some queries against every row in double. @return entries that differ
std::int64_t count_mismatches(const Case& what, const Matrix& base, const Matrix& queries,
                              const TopK& found) {
  constexpr std::int64_t kSampled = 16;
  const std::int64_t step = std::max<std::int64_t>(1, what.nq / kSampled);
  std::vector<std::int64_t> mismatches(kSampled, 0);
  std::vector<std::thread> threads;
  for (std::int64_t s = 0; s < std::min(kSampled, what.nq); ++s)
    threads.emplace_back([&, s] {
      const std::int64_t q = s * step;
      const Closer closer(what.metric);
      std::vector<std::pair<float, GlobalId>> all;
      std::vector<float> row(static_cast<std::size_t>(what.d));
      const float* const query = reinterpret_cast<const float*>(queries.data()) + q * what.d;
      const double query_squares = kernels::dot_product(query, query, what.d);
      for (std::int64_t r = 0; r < what.nb; ++r) {
        for (std::int64_t i = 0; i < what.d; ++i)
          row[static_cast<std::size_t>(i)] = value_at(base, r * what.d + i);
        double distance = 0;
        if (what.metric == Metric::l2) distance = kernels::l2_squared(query, row.data(), what.d);
        if (what.metric != Metric::l2) distance = kernels::dot_product(query, row.data(), what.d);
        if (what.metric == Metric::cosine)
          distance = kernels::cosine_similarity(distance, query_squares,
                                                kernels::dot_product(row.data(), row.data(), what.d));
        all.emplace_back(static_cast<float>(distance), r);
      }
      const std::int64_t k = std::min(what.k, what.nb);
      std::partial_sort(all.begin(), all.begin() + k, all.end(), [&](const auto& a, const auto& b) {
        return closer(a.second, a.first, b.second, b.first);
      });
      for (std::int64_t i = 0; i < k; ++i)
        if (found.row(q).neighbors[static_cast<std::size_t>(i)] != all[static_cast<std::size_t>(i)].second ||
            found.row(q).distances[static_cast<std::size_t>(i)] != all[static_cast<std::size_t>(i)].first)
          ++mismatches[static_cast<std::size_t>(s)];
    });
  std::int64_t total = 0;
  for (std::size_t s = 0; s < threads.size(); ++s) {
    threads[s].join();
    total += mismatches[s];
  }
  return total;
}

/// FLOP/s of large binary16 products of this depth: the limit of any screen.
double measure_limit(std::int64_t d) {
  constexpr std::int64_t kRows = 16384;
  constexpr int kProducts = 20;
  using namespace kernels::cuda;
  const Stream stream = Stream::create(0);
  HalfProduct product(stream);
  const std::int64_t cols = (d + 7) / 8 * 8;
  DeviceBuffer<std::uint16_t> plane;
  DeviceBuffer<float> sums;
  plane.reserve(stream, kRows * cols);
  sums.reserve(stream, kRows * kRows);
  // Normal numbers, not zeros: those are faster.
  const Matrix values = random_matrix(DType::f32, kRows, cols, 99);
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(kRows * cols));
  for (std::size_t i = 0; i < halves.size(); ++i)
    halves[i] = float_to_half(reinterpret_cast<const float*>(values.data())[i]);
  copy_to_device(stream, plane.data(), halves.data(), halves.size() * sizeof(std::uint16_t));
  const HalfProductShape shape{kRows, kRows, cols, cols, kRows};
  std::vector<double> times;
  for (int repetition = 0; repetition < 5; ++repetition) {
    product.run(stream, shape, plane.data(), plane.data(), sums.data());
    stream.wait();
    times.push_back(seconds([&] {
      for (int i = 0; i < kProducts; ++i) product.run(stream, shape, plane.data(), plane.data(), sums.data());
      stream.wait();
    }));
  }
  return 2.0 * kRows * kRows * static_cast<double>(d) * kProducts / median(times);
}

nlohmann::json measure(const Case& what, int repetitions) {
  const Matrix base = random_matrix(what.dtype, what.nb, what.d, 1);
  const Matrix queries = random_matrix(DType::f32, what.nq, what.d, 2);
  const MatrixView<const float> query_view{reinterpret_cast<const float*>(queries.data()), what.nq, what.d};
  const double limit = measure_limit(what.d);
  const auto index = kernels::cuda::make_flat(what.metric, {});
  const double build_seconds = seconds([&] { index->build(base.view(), {}); });
  TopK found(what.nq, what.k, what.metric);
  index->search(query_view, {}, found);
  const kernels::SearchCounters before = index->counters();
  std::vector<double> times;
  for (int repetition = 0; repetition < repetitions; ++repetition)
    times.push_back(seconds([&] { index->search(query_view, {}, found); }));
  const kernels::SearchCounters& after = index->counters();
  const double typical = median(times);
  const double searched = static_cast<double>(what.nq) * repetitions;
  const double flops = 2.0 * static_cast<double>(what.nb * what.nq) * static_cast<double>(what.d) / typical;
  return {{"case", what.name},
          {"nb", what.nb},
          {"d", what.d},
          {"nq", what.nq},
          {"k", what.k},
          {"metric", std::string(to_string(what.metric))},
          {"dtype", std::string(to_string(what.dtype))},
          {"engine", index->description()},
          {"build_seconds", build_seconds},
          {"seconds", typical},
          {"queries_per_second", static_cast<double>(what.nq) / typical},
          {"asked_queries_per_second", what.asked},
          {"flops_per_second", flops},
          {"limit_flops_per_second", limit},
          {"candidates_per_query", static_cast<double>(after.candidates - before.candidates) / searched},
          {"widened_share", static_cast<double>(after.widened - before.widened) / searched},
          {"mismatches", count_mismatches(what, base, queries, found)}};
}

void print_row(const nlohmann::json& row) {
  const double limit = row["limit_flops_per_second"];
  const double flops = row["flops_per_second"];
  std::printf(
      "%-6s %9lld %5lld %6lld %4lld %-6s %-4s | %9.3f %11.0f %11.0f | %7.1f %7.1f %5.1f%% | %7.1f %6.2f%% "
      "%4lld\n",
      row["case"].get<std::string>().c_str(), row["nb"].get<long long>(), row["d"].get<long long>(),
      row["nq"].get<long long>(), row["k"].get<long long>(), row["metric"].get<std::string>().c_str(),
      row["dtype"].get<std::string>().c_str(), row["seconds"].get<double>() * 1e3,
      row["queries_per_second"].get<double>(), row["asked_queries_per_second"].get<double>(), flops / 1e12,
      limit / 1e12, 100 * flops / limit, row["candidates_per_query"].get<double>(),
      100 * row["widened_share"].get<double>(), row["mismatches"].get<long long>());
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  cxxopts::Options options("cuda_flat", "The CUDA engine's flat index beside the limit of the device");
  options.add_options()("cases", "all or small", cxxopts::value<std::string>()->default_value("all"))(
      "repetitions", "timed searches a case", cxxopts::value<int>()->default_value("5"))(
      "json", "file that gets a line for each case", cxxopts::value<std::string>())("h,help", "this text");
  const cxxopts::ParseResult parsed = options.parse(argc, argv);
  if (parsed.count("help") > 0) {
    std::printf("%s\n", options.help().c_str());
    return 0;
  }
  std::string why_none;
  const std::vector<kernels::GpuDevice> devices = kernels::list_gpus(why_none);
  if (devices.empty()) throw Error(ErrorKind::unavailable, "no device: " + why_none);
  std::printf("device: %s, compute capability %s\n", devices.front().name.c_str(),
              devices.front().compute_capability.c_str());
  std::printf("%-6s %9s %5s %6s %4s %-6s %-4s | %9s %11s %11s | %7s %7s %6s | %7s %7s %4s\n", "case", "nb",
              "d", "nq", "k", "metric", "type", "ms", "queries/s", "asked", "TFLOP/s", "limit", "of it",
              "cand/q", "widened", "bad");
  const std::span<const Case> cases = parsed["cases"].as<std::string>() == "small"
                                          ? std::span<const Case>(kSmall)
                                          : std::span<const Case>(kAll);
  std::ofstream json;
  if (parsed.count("json") > 0) json.open(parsed["json"].as<std::string>());
  bool is_exact = true;
  for (const Case& what : cases) {
    const nlohmann::json row = measure(what, std::max(1, parsed["repetitions"].as<int>()));
    print_row(row);
    if (json.is_open()) json << row.dump() << std::endl;
    is_exact = is_exact && row["mismatches"] == 0;
  }
  return is_exact ? 0 : 1;
}

}  // namespace
}  // namespace mpishards::bench

int main(int argc, char** argv) {
  try {
    return mpishards::bench::run(argc, argv);
  } catch (const mpishards::Error& error) {
    std::fprintf(stderr, "cuda_flat: %s\n", error.what());
    return mpishards::exit_code(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_flat: %s\n", error.what());
    return 64;
  }
}

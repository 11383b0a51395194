#include "rank/balance.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <system_error>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/matrix_view.hpp"
#include "core/mixed_bits.hpp"
#include "core/narrow.hpp"
#include "core/timer.hpp"
#include "core/topk.hpp"

namespace mpishards::rank {

namespace {

// Of float32 rows, at most, and of memory; fewer rows than are ever divided into cells.
constexpr std::int64_t kRowBytes = std::int64_t{8} << 20;
constexpr std::int64_t kRowShare = 32;
constexpr std::int64_t kMostRows = 16384;
constexpr std::int64_t kRowsPerQuery = 16;
constexpr std::int64_t kMostQueries = 256;
constexpr double kMeasuredSeconds = 0.1;
constexpr int kMostSearches = 100;

[[noreturn]] void throw_no_balance(std::string_view text) {
  throw Error(ErrorKind::usage, "'" + std::string(text) +
                                    "' is no balance; expected auto, equal, measured, or a weight above 0 "
                                    "for each rank: 1,1,0.25");
}

double parse_weight(std::string_view text, std::string_view all) {
  double weight = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (code != std::errc() || end != text.data() + text.size() || !(weight > 0) || !std::isfinite(weight))
    throw_no_balance(all);
  return weight;
}

/// Values without any order, of which nothing but the time that they take is asked.
/// @param like  of bytes: whole numbers that both types of them hold
Matrix made_up_rows(std::int64_t rows, std::int64_t d, DType like) {
  const bool is_byte = like == DType::u8 || like == DType::i8;
  Matrix matrix(DType::f32, rows, d);
  float* const values = matrix.as<float>().data;
  for (std::int64_t i = 0; i < rows * d; ++i) {
    const std::uint64_t bits = mixed_bits(static_cast<std::uint64_t>(i));
    values[i] = is_byte ? static_cast<float>(bits >> 57U) : static_cast<float>(bits >> 40U) * 0x1p-23f - 1.0f;
  }
  return matrix;
}

/// Which ranks are alike: the same number for the same kind.
std::vector<std::int64_t> kinds_of_ranks(const RankKind& mine, const comm::Communicator& comm) {
  const std::string name = mine.engine + " " + mine.options.isa + " " + std::to_string(mine.options.threads) +
                           " " + std::to_string(mine.options.device_ranks);
  return comm.all_gather(static_cast<std::int64_t>(std::hash<std::string>()(name) >> 1U));
}

bool are_alike(const std::vector<std::int64_t>& kinds) {
  return std::ranges::all_of(kinds, [&](std::int64_t kind) { return kind == kinds.front(); });
}

}  // namespace

Balance parse_balance(std::string_view text) {
  if (text == "auto") return {};
  if (text == "equal") return {Balance::Kind::equal, {}};
  if (text == "measured") return {Balance::Kind::measured, {}};
  Balance balance{Balance::Kind::given, {}};
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    balance.weights.push_back(parse_weight(text.substr(begin, end - begin), text));
    begin = end + 1;
  }
  if (!std::isfinite(std::accumulate(balance.weights.begin(), balance.weights.end(), 0.0)))
    throw_no_balance(text);
  return balance;
}

double measure_speed(const RankKind& kind, Metric metric, std::int64_t d, DType dtype,
                     std::int64_t memory_bytes) {
  const std::int64_t row_bytes = d * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t rows =
      std::clamp<std::int64_t>(std::min(kRowBytes, memory_bytes / kRowShare) / row_bytes, 1, kMostRows);
  const std::int64_t nq = std::clamp<std::int64_t>(rows / kRowsPerQuery, 1, kMostQueries);
  const Matrix base = made_up_rows(rows, d, dtype);
  const Matrix queries = made_up_rows(nq, d, dtype);
  const std::unique_ptr<kernels::Index> index =
      kernels::make_index("flat", kind.engine, metric, kind.options);
  index->build(base.view(), {});
  TopK answers(nq, 1, metric);
  const auto search = [&] { index->search(queries.view().as<float>(), {}, answers); };
  search();  // packs the rows
  const double start = steady_seconds();
  int searches = 0;
  double seconds = 0;
  for (; searches < kMostSearches && seconds < kMeasuredSeconds; ++searches) {
    search();
    seconds = steady_seconds() - start;
  }
  return static_cast<double>(rows * nq) * searches / std::max(seconds, 1e-9);
}

std::vector<double> weights_by_kind(const std::vector<double>& speeds,
                                    const std::vector<std::int64_t>& kinds) {
  std::vector<double> weights;
  for (const std::int64_t kind : kinds) {
    std::vector<double> alike;
    for (std::size_t r = 0; r < speeds.size(); ++r)
      if (kinds[r] == kind) alike.push_back(speeds[r]);
    const auto middle = alike.begin() + std::ssize(alike) / 2;
    std::ranges::nth_element(alike, middle);
    weights.push_back(*middle);
  }
  const double largest = *std::ranges::max_element(weights);
  for (double& weight : weights) weight = std::max(1.0, std::round(100 * weight / largest)) / 100;
  return weights;
}

std::vector<double> shard_weights(const Balance& balance, const RankKind& mine, Metric metric, std::int64_t d,
                                  DType dtype, std::int64_t memory_bytes, const comm::Communicator& comm) {
  if (balance.kind == Balance::Kind::equal) return {};
  if (balance.kind == Balance::Kind::given) {
    comm::agree(comm, [&] {
      if (std::ssize(balance.weights) != comm.size())
        throw Error(ErrorKind::usage, "--balance names " + std::to_string(balance.weights.size()) +
                                          " weights for " + std::to_string(comm.size()) +
                                          " ranks; name one for each, or auto");
    });
    return balance.weights;
  }
  std::vector<std::int64_t> kinds = kinds_of_ranks(mine, comm);
  if (balance.kind == Balance::Kind::automatic && are_alike(kinds)) return {};
  if (balance.kind == Balance::Kind::measured) std::iota(kinds.begin(), kinds.end(), std::int64_t{0});
  comm.barrier();  // ranks of one host share its memory, as they will when they search
  double speed = 0;
  comm::agree(comm, [&] { speed = measure_speed(mine, metric, d, dtype, memory_bytes); });
  return weights_by_kind(comm.all_gather(speed), kinds);
}

}  // namespace mpishards::rank

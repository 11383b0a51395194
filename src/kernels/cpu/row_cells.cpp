#include "kernels/cpu/row_cells.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "core/convert.hpp"
#include "core/narrow.hpp"
#include "core/topk.hpp"
#include "kernels/cpu/flat.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/score_cut.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr std::int64_t kLeastRows = 32768;
constexpr std::int64_t kRowsPerCell = 512;
constexpr std::int64_t kMostCells = 4096;
constexpr std::int64_t kSampleRowsPerCell = 24;
constexpr std::int64_t kOriginRows = 1024;
constexpr std::int64_t kSeedRounds = 5;
constexpr int kRefinements = 3;
// Searches for the nearest center.
constexpr std::int64_t kThresholdShare = 8;  // of the centers: their distances raise thresholds
constexpr std::int64_t kBufferEntries = 64;
// What is asked of the sample: how many of its rows a search for so many neighbors would look at.
constexpr std::int64_t kTestQueries = 64;
constexpr std::int64_t kTestNeighbors = 4;
constexpr double kMostVisited = 0.3;
constexpr std::int64_t kBatchBytes = std::int64_t{4} << 20;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Room for the few double operations of a bound itself.
constexpr double kOutward = 1 + 0x1p-40;
constexpr double kLargestFloat = std::numeric_limits<float>::max();
constexpr double kFloatRounding = 0x1p-24;
constexpr double kSmallestNormalFloat = 0x1p-126;

/// Of double sums of d terms, relative to norms, and as much again.
double double_slack(std::int64_t d) {
  return static_cast<double>(d + 16) * 0x1p-51;
}

std::int64_t sample_rows_of(std::int64_t rows) {
  return std::min(rows, kSampleRowsPerCell * RowCells::cells_for(rows));
}

std::int64_t threshold_rows(std::int64_t cells) {
  return cells / kThresholdShare / kTileRows * kTileRows;
}

std::int64_t batch_rows_of(std::int64_t d) {
  return std::clamp<std::int64_t>(kBatchBytes / (d * static_cast<std::int64_t>(sizeof(float))), 32, 8192);
}

}  // namespace

std::int64_t RowCells::cells_for(std::int64_t rows) {
  return rows < kLeastRows ? 0 : std::min(rows / kRowsPerCell, kMostCells);
}

std::int64_t RowCells::bytes_for(std::int64_t rows, std::int64_t d, const CpuLimits& limits) {
  const std::int64_t cells = cells_for(rows);
  if (cells == 0) return 0;
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  constexpr auto kNeighbor = static_cast<std::int64_t>(sizeof(GlobalId) + sizeof(float));
  const std::int64_t sample = sample_rows_of(rows);
  const SearchShape shape{cells, std::max(sample, batch_rows_of(d)), d, 1, DType::f32};
  CpuSearchPlan plan = plan_cpu_search(shape, limits);
  plan.sample_rows = threshold_rows(cells);
  plan.buffer_entries = kBufferEntries;
  complete_plan(plan, shape, limits);
  // What the test of the sample takes.
  CpuLimits unpacked = limits;
  unpacked.may_pack = false;
  const CpuSearchPlan test = plan_cpu_search({sample, kTestQueries, d, kTestNeighbors, DType::f32}, unpacked);
  const std::int64_t tested = test.index_bytes + test.scratch_bytes + 2 * kTestQueries * d * kFloat +
                              CellReach::bytes_for(kTestQueries, cells, d);
  // Centers, their sums and their index, a sample and its answers, a batch of rows, and each row's cell.
  constexpr auto kDouble = static_cast<std::int64_t>(sizeof(double));
  return cells * (d * kFloat + d * kDouble + 2 * kDouble) + plan.index_bytes + plan.scratch_bytes + tested +
         sample * (d * kFloat + kFloat + kDouble + kNeighbor) + batch_rows_of(d) * (d * kFloat + kNeighbor) +
         rows * kFloat;
}

void RowCells::clear() {
  *this = RowCells();
}

std::size_t RowCells::bytes() const {
  return bytes_of(origin_) + bytes_of(offsets_) + bytes_of(offset_squares_) + bytes_of(cell_of_row_) +
         (index_ == nullptr ? 0 : index_->bytes());
}

void RowCells::build(TypedView base, Metric metric, const Isa& isa, int threads) {
  clear();
  if (cells_for(base.rows) == 0) return;
  metric_ = metric;
  d_ = base.cols;
  FlatOverrides tuned;
  tuned.sample_rows = threshold_rows(cells_for(base.rows));
  tuned.buffer_entries = kBufferEntries;
  index_ = make_flat(Metric::l2, {threads, std::string(isa.name), 0, 1}, tuned);
  const std::int64_t sample_rows = sample_rows_of(base.rows);
  const std::int64_t stride = base.rows / sample_rows;
  set_origin(base);
  Matrix loaded(DType::f32, sample_rows, d_);
  for (std::int64_t i = 0; i < sample_rows; ++i) load(base, i * stride, loaded.as<float>().row(i));
  const MatrixView<const float> sample = loaded.view().as<float>();
  std::vector<std::uint32_t> cells(static_cast<std::size_t>(sample_rows));
  pick_offsets(sample, cells_for(base.rows));
  for (int i = 0; i < kRefinements; ++i) {
    index_offsets(0);
    nearest_offsets(sample, cells);
    refine_offsets(sample, cells);
  }
  sort_offsets();
  set_offset_squares(isa);
  index_offsets(0);
  nearest_offsets(sample, cells);
  if (!excludes_most(sample, cells, isa, threads)) return clear();

  loaded = {};
  set_size(cell_of_row_, base.rows);
  nearest(base, cell_of_row_);
}

/// Products, unlike distances, depend on where zero is: there it stays.
void RowCells::set_origin(TypedView base) {
  origin_.assign(static_cast<std::size_t>(d_), 0.0f);
  if (metric_ != Metric::l2) return;
  std::vector<float> row(static_cast<std::size_t>(d_));
  std::vector<double> sums(row.size(), 0.0);
  const std::int64_t stride = base.rows / kOriginRows;
  for (std::int64_t i = 0; i < kOriginRows; ++i) {
    load(base, i * stride, row.data());
    std::ranges::transform(sums, row, sums.begin(), std::plus<>());
  }
  std::ranges::transform(sums, origin_.begin(),
                         [](double sum) { return static_cast<float>(sum / kOriginRows); });
}

void RowCells::index_offsets(std::int64_t first) {
  index_->build({DType::f32, reinterpret_cast<const std::byte*>(offset(first)), n_cells_ - first, d_},
                RowIds{});
}

void RowCells::pick_offsets(MatrixView<const float> sample, std::int64_t wanted) {
  set_size(offsets_, wanted * d_);
  n_cells_ = 0;
  std::vector<double> squares(static_cast<std::size_t>(sample.rows), 1.0);
  TopK found(sample.rows, 1, Metric::l2);
  for (std::int64_t round = 1; round <= kSeedRounds; ++round) {
    const std::int64_t first = n_cells_;
    const std::int64_t picks = wanted * round / kSeedRounds - first;
    double total = 0;
    for (const double square : squares) total += square;
    if (picks == 0 || !(total > 0 && total < kInfinity)) continue;
    const double step = total / static_cast<double>(picks);
    double sum = 0;
    double next = step / 2;
    for (std::int64_t row = 0; row < sample.rows && n_cells_ < first + picks; ++row) {
      sum += squares[static_cast<std::size_t>(row)];
      if (sum < next) continue;
      std::copy_n(sample.row(row), d_, offsets_.begin() + n_cells_++ * d_);
      while (next <= sum) next += step;
    }
    if (round == kSeedRounds) break;
    index_offsets(first);
    index_->search(sample, {}, found);
    for (std::size_t row = 0; row < squares.size(); ++row) {
      const double square = found.distances()[row];
      squares[row] = round == 1 ? square : std::min(squares[row], square);
    }
  }
}

void RowCells::refine_offsets(MatrixView<const float> sample, std::span<const std::uint32_t> cells) {
  std::vector<double> sums(static_cast<std::size_t>(n_cells_ * d_), 0.0);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(n_cells_), 0);
  for (std::int64_t row = 0; row < sample.rows; ++row) {
    const std::uint32_t cell = cells[static_cast<std::size_t>(row)];
    ++counts[cell];
    double* const sum = sums.data() + cell * d_;
    for (std::int64_t i = 0; i < d_; ++i) sum[i] += sample.row(row)[i];
  }
  for (std::int64_t cell = 0; cell < n_cells_; ++cell) {
    const auto rows = static_cast<double>(counts[static_cast<std::size_t>(cell)]);
    if (rows == 0) continue;  // stays where it is
    for (std::int64_t i = cell * d_; i < (cell + 1) * d_; ++i)
      offsets_[static_cast<std::size_t>(i)] = static_cast<float>(sums[static_cast<std::size_t>(i)] / rows);
  }
}

bool RowCells::excludes_most(MatrixView<const float> sample, std::span<const std::uint32_t> cells,
                             const Isa& isa, int threads) {
  std::vector<float> radii(static_cast<std::size_t>(n_cells_), 0.0f);
  std::vector<std::int64_t> counts(radii.size(), 0);
  for (std::int64_t row = 0; row < sample.rows; ++row) {
    const std::uint32_t cell = cells[static_cast<std::size_t>(row)];
    radii[cell] =
        std::max(radii[cell], round_up(std::sqrt(isa.l2_squared(sample.row(row), offset(cell), d_))));
    ++counts[cell];
  }

  const std::int64_t n_queries = std::min(kTestQueries, sample.rows);
  Matrix offsets(DType::f32, n_queries, d_);
  Matrix queries(DType::f32, n_queries, d_);
  for (std::int64_t q = 0; q < n_queries; ++q) {
    const float* const row = sample.row(q * (sample.rows / n_queries));
    std::copy_n(row, d_, offsets.as<float>().row(q));
    std::transform(row, row + d_, origin_.begin(), queries.as<float>().row(q), std::plus<>());
  }
  FlatOverrides as_stored;
  as_stored.queries_worth_packing = std::numeric_limits<std::int64_t>::max();
  const auto index = make_flat(metric_, {threads, std::string(isa.name), 0, 1}, as_stored);
  index->build({DType::f32, reinterpret_cast<const std::byte*>(sample.data), sample.rows, d_}, RowIds{});
  TopK found(n_queries, kTestNeighbors, metric_);
  index->search(offsets.view().as<float>(), {}, found);

  CellReach reach;
  reach.reserve(n_queries, n_cells_, d_);
  reach.begin(*this, radii, metric_, isa, queries.view().as<float>());
  std::int64_t visited = 0;
  for (std::int64_t q = 0; q < n_queries; ++q) {
    const float* const query = queries.as<float>().row(q);
    const ScoreCut cut(metric_, d_, isa.dot_product(query, query, d_), 0);
    reach.set_cut(q, cut.from_distance(found.kth_distance(q)));
    for (std::int64_t cell = 0; cell < n_cells_; ++cell)
      if (reach.is_needed(cell, q, q + 1)) visited += counts[static_cast<std::size_t>(cell)];
  }
  return static_cast<double>(visited) <= kMostVisited * static_cast<double>(n_queries * sample.rows);
}

/// Gives cells near to each other numbers near to each other, for queries are sorted by those: halves them
/// again and again along the value that differs most.
void RowCells::sort_offsets() {
  std::vector<std::uint32_t> order(static_cast<std::size_t>(n_cells_));
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  std::vector<std::span<std::uint32_t>> parts{order};
  while (!parts.empty()) {
    const std::span<std::uint32_t> part = parts.back();
    parts.pop_back();
    if (part.size() < 3) continue;
    const std::int64_t widest = widest_value(part);
    const std::size_t half = part.size() / 2;
    std::ranges::nth_element(part, part.begin() + static_cast<std::ptrdiff_t>(half), {},
                             [&](std::uint32_t cell) { return offset(cell)[widest]; });
    parts.push_back(part.first(half));
    parts.push_back(part.subspan(half));
  }
  std::vector<float> sorted(offsets_.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    std::copy_n(offset(order[i]), d_, sorted.begin() + static_cast<std::ptrdiff_t>(i) * d_);
  offsets_ = std::move(sorted);
}

std::int64_t RowCells::widest_value(std::span<const std::uint32_t> cells) const {
  std::int64_t widest = 0;
  float width = -1;
  for (std::int64_t i = 0; i < d_; ++i) {
    const auto [low, high] =
        std::ranges::minmax(cells, {}, [&](std::uint32_t cell) { return offset(cell)[i]; });
    const float own = offset(high)[i] - offset(low)[i];
    if (own > width) widest = i;
    width = std::max(width, own);
  }
  return widest;
}

void RowCells::set_offset_squares(const Isa& isa) {
  set_size(offset_squares_, n_cells_);
  for (std::int64_t cell = 0; cell < n_cells_; ++cell)
    offset_squares_[static_cast<std::size_t>(cell)] = isa.dot_product(offset(cell), offset(cell), d_);
}

void RowCells::load(TypedView rows, std::int64_t row, float* values) const {
  to_float32(rows.dtype, rows.row(row), d_, values);
  if (metric_ == Metric::l2) std::transform(values, values + d_, origin_.begin(), values, std::minus<>());
  if (metric_ != Metric::cosine) return;
  double squares = 0;
  for (std::int64_t i = 0; i < d_; ++i) squares += static_cast<double>(values[i]) * values[i];
  const double factor = squares > 0 ? 1 / std::sqrt(squares) : 0.0;
  for (std::int64_t i = 0; i < d_; ++i) values[i] = static_cast<float>(factor * values[i]);
}

void RowCells::nearest(TypedView vectors, std::span<std::uint32_t> cells) {
  const std::int64_t batch = std::min(batch_rows_of(d_), vectors.rows);
  Matrix loaded(DType::f32, batch, d_);
  float* const values = loaded.as<float>().data;
  for (std::int64_t begin = 0; begin < vectors.rows; begin += batch) {
    const std::int64_t rows = std::min(batch, vectors.rows - begin);
    for (std::int64_t row = 0; row < rows; ++row) load(vectors, begin + row, values + row * d_);
    nearest_offsets({values, rows, d_}, cells.subspan(static_cast<std::size_t>(begin)));
  }
}

void RowCells::nearest_offsets(MatrixView<const float> vectors, std::span<std::uint32_t> cells) {
  TopK found(vectors.rows, 1, Metric::l2);
  index_->search(vectors, {}, found);
  std::transform(found.neighbors(), found.neighbors() + vectors.rows, cells.begin(),
                 [](GlobalId cell) { return static_cast<std::uint32_t>(cell); });
}

void CellReach::reserve(std::int64_t queries, std::int64_t cells, std::int64_t d) {
  const std::int64_t used = cells > 0 ? queries : 0;
  set_size(queries_, used);
  set_size(from_origin_, used * d);
  set_size(squares_, used);
  set_size(errors_, used);
  set_size(away_, queries * cells);
  set_size(nearness_, cells);
  set_size(order_, cells);
}

std::int64_t CellReach::bytes_for(std::int64_t queries, std::int64_t cells, std::int64_t d) {
  if (cells == 0) return 0;
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  constexpr auto kPerQuery = static_cast<std::int64_t>(sizeof(Query) + 2 * sizeof(double));
  return queries * (kPerQuery + (cells + d) * kFloat) + 2 * cells * kFloat;
}

std::size_t CellReach::bytes() const {
  return bytes_of(queries_) + bytes_of(from_origin_) + bytes_of(squares_) + bytes_of(errors_) +
         bytes_of(away_) + bytes_of(nearness_) + bytes_of(order_);
}

void CellReach::begin(const RowCells& cells, std::span<const float> radii, Metric metric, const Isa& isa,
                      MatrixView<const float> queries) {
  metric_ = metric;
  n_queries_ = queries.rows;
  radii_ = radii;
  const std::int64_t d = queries.cols;
  const double slack = double_slack(d);
  // Of float32 sums in any order; differences from the origin were rounded too.
  const double gamma = rounding_gamma(d + 4, kFloatRounding);
  for (std::int64_t q = 0; q < n_queries_; ++q) {
    const auto i = static_cast<std::size_t>(q);
    const float* const row = queries.row(q);
    float* const own = from_origin_.data() + q * d;
    std::transform(row, row + d, cells.origin(), own, std::minus<>());
    const double own_squares = isa.dot_product(own, own, d);
    const double own_norm = std::sqrt(own_squares) * (1 + slack);
    errors_[i] = (metric == Metric::l2 ? 2 * gamma + 4 * kFloatRounding : gamma) * own_norm;
    squares_[i] = metric == Metric::l2 ? own_squares * (1 - slack - 4 * kFloatRounding) : 0.0;
    queries_[i].squares = isa.dot_product(row, row, d) * (1 + slack);
    queries_[i].norm = std::sqrt(queries_[i].squares) * kOutward;
    set_cut(q, -kInfinity);
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow<blasint>(cells.count()),
              narrow<blasint>(n_queries_), narrow<blasint>(d), 1.0f, cells.offset(0), narrow<blasint>(d),
              from_origin_.data(), narrow<blasint>(d), 0.0f, away_.data(), narrow<blasint>(n_queries_));
  // Of products too small for float32, and of what is written.
  const double underflow = 2 * static_cast<double>(d + 4) * kSmallestNormalFloat;
  const auto write = [](double value) {
    const double low = value - std::abs(value) * 4 * kFloatRounding - 4 * kSmallestNormalFloat;
    if (low < kLargestFloat) return static_cast<float>(low);
    return low >= kLargestFloat ? std::numeric_limits<float>::max() : -std::numeric_limits<float>::infinity();
  };
  const double factor = metric == Metric::l2 ? 2 : 1;
  for (std::int64_t cell = 0; cell < cells.count(); ++cell) {
    float* const out = away_.data() + cell * n_queries_;
    const double offset_norm = std::sqrt(cells.offset_squares(cell)) * (1 + slack);
    const double least = (metric == Metric::l2 ? cells.offset_squares(cell) * (1 - slack) : 0.0) - underflow;
    for (std::int64_t q = 0; q < n_queries_; ++q) {
      const auto i = static_cast<std::size_t>(q);
      out[q] = write(squares_[i] + least - factor * out[q] - errors_[i] * offset_norm);
    }
  }
  sort_cells();
}

void CellReach::sort_cells() {
  for (std::int64_t cell = 0; cell < std::ssize(radii_); ++cell) {
    const float* const own = away(cell);
    const float radius = radii_[static_cast<std::size_t>(cell)];
    nearness_[static_cast<std::size_t>(cell)] =
        *std::min_element(own, own + n_queries_) - (metric_ == Metric::l2 ? radius * radius : 0.0f);
  }
  order_.resize(radii_.size());
  std::iota(order_.begin(), order_.end(), std::uint32_t{0});
  std::ranges::stable_sort(order_, {}, [&](std::uint32_t cell) { return nearness_[cell]; });
}

void CellReach::set_cut(std::int64_t q, double cut) {
  Query& query = queries_[static_cast<std::size_t>(q)];
  // Of l2 the score is (|q|^2 - |q - x|^2) / 2.
  query.limit = metric_ == Metric::l2 ? std::sqrt(std::max(0.0, query.squares - 2 * cut)) * kOutward : -cut;
}

bool CellReach::is_needed(std::int64_t cell, std::int64_t begin, std::int64_t end) const {
  const float* const own = away(cell);
  const double radius = radii_[static_cast<std::size_t>(cell)];
  for (std::int64_t q = begin; q < end; ++q) {
    const Query& query = queries_[static_cast<std::size_t>(q)];
    // |q - x| >= |q - c| - |x - c|, and q . x <= q . c + |q| |x - c|.
    const double farthest = query.limit + radius;
    const double limit = metric_ == Metric::l2 ? farthest * farthest : query.limit + query.norm * radius;
    if (!(own[q] > limit + std::abs(limit) * 0x1p-40)) return true;
  }
  return false;
}

}  // namespace mpishards::kernels::cpu

#include "kernels/cpu/flat.hpp"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/cpu/chunk_search.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/one_blas_thread.hpp"
#include "kernels/cpu/range_search.hpp"
#include "kernels/cpu/row_cells.hpp"
#include "kernels/cpu/row_norms.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/search_calls.hpp"

namespace mpishards::kernels::cpu {
namespace {

// Squared distances of rows with larger norms come near to what float32 holds.
constexpr double kLargestDivided = 1e18;
// A server's searches differ in k: a sample for more neighbors serves fewer, too, but takes longer to screen.
constexpr std::int64_t kLargestSampleFactor = 4;

class FlatIndex final : public Index {
 public:
  FlatIndex(Metric metric, const EngineOptions& options, const FlatOverrides& overrides)
      : metric_(metric),
        threads_(options.threads),
        isa_(find_isa(options.isa)),
        overrides_(overrides),
        chunks_(static_cast<std::size_t>(std::max(options.threads, 1))) {
    check_threads(options.threads);
  }

  void build(TypedView base, RowIds ids, RowLists lists) override;
  void search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
              TopK& out) override;
  bool search_range(MatrixView<const float> queries, const RangeRequest& request, RangeHits& out) override;

  const SearchCounters& counters() const override { return counters_; }
  std::size_t bytes() const override;
  std::string description() const override {
    return "cpu " + std::string(isa_.name) + " (" +
           std::string(isa_.plane != nullptr ? isa_.plane->name : isa_.screen_name) + ")";
  }

 private:
  CpuSearchPlan plan(const SearchShape& shape) const;
  void pack(std::int64_t queries);
  /// Divides the rows into cells if searches are many enough to gain by it. @return true if it did
  bool divide();
  /// Keeps the sample of an earlier search where it has enough rows, and not too many.
  void take_sample(std::int64_t rows);
  void reserve(const CpuSearchPlan& plan, const SearchShape& shape);
  /// @param order  of the queries: which row of the answer is whose; empty: as they came
  void share_queries(const CpuSearchPlan& plan, MatrixView<const float> queries, std::span<const float> bound,
                     std::span<const std::uint32_t> order, TopK& out);
  void share_queries_by_cell(const CpuSearchPlan& plan, MatrixView<const float> queries,
                             std::span<const float> bound, TopK& out);
  void share_base(MatrixView<const float> queries, std::span<const float> bound, TopK& out);
  /// @param part  of so many of the base
  void search_part(ChunkSearch& chunk, MatrixView<const float> queries, std::span<const float> bound,
                   int part, int parts, TopK& out, const AnswerRows& rows) const;
  template <class Chunk>
  void note_widened(const Chunk& chunk, const AnswerRows& rows, std::int64_t count);

  Metric metric_;
  int threads_;
  const Isa& isa_;
  FlatOverrides overrides_;
  SearchContext context_;
  RowNorms norms_;
  RowCells cells_;
  RowPlane plane_;
  std::int64_t queries_seen_ = 0;       // since build()
  std::int64_t many_queries_seen_ = 0;  // the same, of searches for many at once
  bool has_tried_cells_ = false;
  bool is_packed_ = false;  // as far as it goes: the plane may be empty
  RowSet sample_;           // spread over the base
  Matrix sample_rows_;
  RowNorms sample_norms_;
  RowPlane sample_plane_;
  std::vector<ChunkSearch> chunks_;  // one a thread
  std::vector<RangeSearch> ranges_;  // one a thread, from the first range search on
  std::vector<TopK> parts_;          // one a thread, where threads share the base
  WidenedQueries widened_;           // of the current search
  SearchCounters counters_;
};

void FlatIndex::build(TypedView base, RowIds ids, RowLists) {
  check_build(base, ids);
  const DefaultFloatEnvironment environment;
  norms_.build(base, metric_, isa_, threads_);
  context_ = {metric_, &isa_, {base, &norms_, 1}, ids, norms_.maxima().norm, overrides_.error_factor};
  sample_ = {};
  queries_seen_ = 0;
  many_queries_seen_ = 0;
  has_tried_cells_ = false;
  cells_.clear();
  is_packed_ = false;
}

void FlatIndex::pack(std::int64_t queries) {
  queries_seen_ += queries;
  if (queries >= kFewPlaneQueries) many_queries_seen_ += queries;
  if (isa_.plane == nullptr ||
      queries_seen_ < overrides_.queries_worth_packing.value_or(kQueriesWorthPacking))
    return;
  const bool is_divided = divide();
  if (is_packed_ && !is_divided) return;
  is_packed_ = true;
  context_.base.plane = nullptr;
  if (!is_divided) cells_.clear();
  plane_.build(context_.base.rows, metric_, overrides_.plane, cells_, isa_, threads_);
  cells_.forget_rows();
  if (!plane_.is_empty()) context_.base.plane = &plane_;
  sample_ = {};
}

bool FlatIndex::divide() {
  const std::int64_t cells = RowCells::cells_for(context_.base.rows.rows);
  const std::int64_t worth = cells * overrides_.queries_worth_cell.value_or(kQueriesWorthCell);
  if (has_tried_cells_ || cells == 0 || many_queries_seen_ < std::max(worth, kFewPlaneQueries)) return false;
  has_tried_cells_ = true;
  if (is_packed_ && plane_.is_empty()) return false;
  if (metric_ != Metric::cosine && !(norms_.maxima().norm <= kLargestDivided)) return false;
  cells_.build(context_.base.rows, metric_, isa_, threads_);
  return !cells_.is_empty();
}

CpuSearchPlan FlatIndex::plan(const SearchShape& shape) const {
  const CpuLimits limits{.threads = threads_, .isa = isa_.name, .is_packed = context_.base.plane != nullptr};
  CpuSearchPlan plan = plan_cpu_search(shape, limits);
  plan_for_cells(plan,
                 context_.base.plane == nullptr || plane_.cells() == nullptr ? 0 : plane_.cells()->count());
  plan.query_tile = overrides_.query_tile.value_or(plan.query_tile);
  plan.base_tile = overrides_.base_tile.value_or(plan.base_tile);
  plan.buffer_entries = overrides_.buffer_entries.value_or(plan.buffer_entries);
  plan.sample_rows = std::min(shape.nb, overrides_.sample_rows.value_or(plan.sample_rows));
  plan.split_base = overrides_.split_base.value_or(plan.split_base);
  if (plan.split_base) plan.query_tile = std::max(plan.query_tile, shape.nq);
  plan.chunk_queries = plan.query_tile;
  complete_plan(plan, shape, limits);
  return plan;
}

void FlatIndex::take_sample(std::int64_t rows) {
  const TypedView& base = context_.base.rows;
  const std::int64_t kept = sample_.norms == nullptr ? 0 : sample_.rows.rows;
  if (rows == 0 || (rows <= kept && kept <= kLargestSampleFactor * rows)) return;
  const std::int64_t stride = base.rows / rows;
  if (sample_rows_.rows() != rows || sample_rows_.cols() != base.cols || sample_rows_.dtype() != base.dtype)
    sample_rows_ = Matrix(base.dtype, rows, base.cols);
  for (std::int64_t row = 0; row < rows; ++row)
    std::memcpy(sample_rows_.data() + static_cast<std::size_t>(row) * base.row_bytes(),
                base.row(row * stride), base.row_bytes());
  sample_norms_.build(sample_rows_.view(), metric_, isa_, threads_);
  sample_ = {sample_rows_.view(), &sample_norms_, stride};
  if (context_.base.plane == nullptr) return;
  sample_plane_.build_as(sample_rows_.view(), metric_, plane_.format(), RowOrder::by_bound, isa_, threads_);
  if (sample_plane_.is_empty())
    sample_ = {};  // thresholds begin with the rows themselves
  else
    sample_.plane = &sample_plane_;
}

void FlatIndex::reserve(const CpuSearchPlan& plan, const SearchShape& shape) {
  for (ChunkSearch& chunk : chunks_) {
    chunk.reserve(plan, shape, isa_);
    chunk.reset_counters();
  }
  parts_.clear();
  if (plan.split_base) parts_.assign(chunks_.size(), TopK(shape.nq, shape.k, metric_));
}

void FlatIndex::search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
                       TopK& out) {
  const TypedView& base = context_.base.rows;
  if (probes.cols > 0)
    throw Error(ErrorKind::internal,
                std::to_string(probes.cols) + " probed lists a query for a flat index, which has no lists");
  check_search(base, queries, bound, out, metric_);
  fill_padding(out);
  if (queries.rows == 0) return;
  widened_.reset(queries.rows);
  if (base.rows == 0) return widened_.add_to(counters_);
  const DefaultFloatEnvironment environment;
  const OneBlasThread one_blas_thread;
  pack(queries.rows);
  const SearchShape shape{base.rows, queries.rows, base.cols, out.k(), base.dtype};
  CpuSearchPlan plan = this->plan(shape);
  take_sample(plan.sample_rows);
  if (plan.sample_rows == 0) sample_ = {};
  plan.sample_rows = sample_.rows.rows;  // an earlier sample may be larger: there must be room for all of it
  reserve(plan, shape);
  if (plan.split_base)
    share_base(queries, bound, out);
  else if (plan.cells > 0)
    share_queries_by_cell(plan, queries, bound, out);
  else
    share_queries(plan, queries, bound, {}, out);
  drop_beyond_bound(out, bound);
  for (const ChunkSearch& chunk : chunks_) counters_ += chunk.counters();
  widened_.add_to(counters_);
}

void FlatIndex::search_part(ChunkSearch& chunk, MatrixView<const float> queries, std::span<const float> bound,
                            int part, int parts, TopK& out, const AnswerRows& rows) const {
  const DefaultFloatEnvironment environment;
  chunk.begin(context_, queries, bound, out, rows);
  chunk.select_all();
  if (sample_.norms != nullptr) chunk.seed(sample_);
  chunk.screen_part(context_.base, part, parts);
  chunk.finish();
}

template <class Chunk>
void FlatIndex::note_widened(const Chunk& chunk, const AnswerRows& rows, std::int64_t count) {
  for (std::int64_t q = 0; q < count; ++q)
    if (chunk.is_widened(q)) widened_.note(rows[q]);
}

void FlatIndex::share_queries(const CpuSearchPlan& plan, MatrixView<const float> queries,
                              std::span<const float> bound, std::span<const std::uint32_t> order, TopK& out) {
  const std::int64_t n_chunks = (queries.rows + plan.query_tile - 1) / plan.query_tile;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
  for (std::int64_t c = 0; c < n_chunks; ++c) {
    const std::int64_t begin = c * plan.query_tile;
    const std::int64_t end = std::min(queries.rows, begin + plan.query_tile);
    const auto own_bound =
        bound.empty() ? bound
                      : bound.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    ChunkSearch& chunk = chunks_[static_cast<std::size_t>(omp_get_thread_num())];
    const AnswerRows rows{begin, order};
    search_part(chunk, queries.slice(begin, end), own_bound, 0, 1, out, rows);
    note_widened(chunk, rows, end - begin);
  }
}

void FlatIndex::share_queries_by_cell(const CpuSearchPlan& plan, MatrixView<const float> queries,
                                      std::span<const float> bound, TopK& out) {
  const auto n_queries = static_cast<std::size_t>(queries.rows);
  std::vector<std::uint32_t> cells(n_queries);
  cells_.nearest({DType::f32, reinterpret_cast<const std::byte*>(queries.data), queries.rows, queries.cols},
                 cells);
  std::vector<std::uint32_t> order(n_queries);
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  std::ranges::stable_sort(order, {}, [&](std::uint32_t q) { return cells[q]; });
  Matrix sorted(DType::f32, queries.rows, queries.cols);
  std::vector<float> sorted_bound(bound.size());
  for (std::size_t i = 0; i < n_queries; ++i) {
    std::copy_n(queries.row(order[i]), queries.cols, sorted.as<float>().row(static_cast<std::int64_t>(i)));
    if (!bound.empty()) sorted_bound[i] = bound[order[i]];
  }
  share_queries(plan, sorted.view().as<float>(), sorted_bound, order, out);
}

void FlatIndex::share_base(MatrixView<const float> queries, std::span<const float> bound, TopK& out) {
#pragma omp parallel for num_threads(threads_) schedule(static, 1)
  for (int t = 0; t < threads_; ++t)
    search_part(chunks_[static_cast<std::size_t>(t)], queries, bound, t, threads_,
                parts_[static_cast<std::size_t>(t)], {});
  for (const ChunkSearch& chunk : chunks_) note_widened(chunk, {}, queries.rows);
  for (const TopK& part : parts_) merge_into(out, part);
}

bool FlatIndex::search_range(MatrixView<const float> queries, const RangeRequest& request, RangeHits& out) {
  const TypedView& base = context_.base.rows;
  check_dimension(base, queries);
  out = RangeHits();
  out.offsets.assign(static_cast<std::size_t>(queries.rows) + 1, 0);
  if (queries.rows == 0) return true;
  widened_.reset(queries.rows);
  if (base.rows == 0) {
    widened_.add_to(counters_);
    return true;
  }
  const OneBlasThread one_blas_thread;
  const SearchShape shape{base.rows, queries.rows, base.cols, 1, base.dtype};
  CpuSearchPlan plan = plan_cpu_range_search(shape, {.threads = threads_, .isa = isa_.name});
  plan.query_tile = overrides_.query_tile.value_or(plan.query_tile);
  plan.base_tile = overrides_.base_tile.value_or(plan.base_tile);
  ranges_.resize(static_cast<std::size_t>(threads_));
  for (RangeSearch& range : ranges_) {
    range.reserve(plan, shape, isa_);
    range.reset_counters();
  }

  // A task is a chunk of queries against a part of the base: all of it, unless the queries are few.
  const std::int64_t n_chunks = (queries.rows + plan.query_tile - 1) / plan.query_tile;
  const std::int64_t n_parts = overrides_.split_base.value_or(plan.split_base) ? threads_ : 1;
  std::vector<std::vector<RangeHit>> hits(static_cast<std::size_t>(threads_));
  std::atomic<std::int64_t> n_hits = 0;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
  for (std::int64_t task = 0; task < n_chunks * n_parts; ++task) {
    if (n_hits.load(std::memory_order_relaxed) > request.max_hits) continue;
    const DefaultFloatEnvironment environment;
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    const std::int64_t first = task / n_parts * plan.query_tile;
    const std::int64_t last = std::min(queries.rows, first + plan.query_tile);
    const std::int64_t part = task % n_parts;
    const std::int64_t from = first_row_asked_for(request, context_.ids, base.rows, first);
    const std::int64_t rows = base.rows - from;
    ranges_[thread].search(context_, request, queries.slice(first, last), first, from + rows * part / n_parts,
                           from + rows * (part + 1) / n_parts, n_hits, hits[thread]);
#pragma omp critical
    note_widened(ranges_[thread], {.first = first, .order = {}}, last - first);
  }
  if (n_hits > request.max_hits) return false;
  out = sorted_hits(hits, queries.rows, metric_, threads_);
  for (const RangeSearch& range : ranges_) counters_ += range.counters();
  widened_.add_to(counters_);
  return true;
}

std::size_t FlatIndex::bytes() const {
  std::size_t total = widened_.bytes() + cells_.bytes() + plane_.bytes() + sample_plane_.bytes() +
                      norms_.bytes() + sample_norms_.bytes() + sample_rows_.bytes();
  for (const ChunkSearch& chunk : chunks_) total += chunk.bytes();
  for (const RangeSearch& range : ranges_) total += range.bytes();
  for (const TopK& part : parts_) total += bytes_of(part);
  return total;
}

}  // namespace

std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options) {
  return make_flat(metric, options, {});
}

std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options,
                                 const FlatOverrides& overrides) {
  return std::make_unique<FlatIndex>(metric, options, overrides);
}

}  // namespace mpishards::kernels::cpu

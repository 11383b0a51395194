#include "kernels/cpu/ivf.hpp"

#include <omp.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/list_search.hpp"
#include "kernels/cpu/one_blas_thread.hpp"
#include "kernels/cpu/row_norms.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/search_calls.hpp"

namespace mpishards::kernels::cpu {
namespace {

/// @param answers  of the queries of a chunk, in its order
void put_rows(const TopK& answers, std::span<const ProbingQuery> chunk, TopK& out) {
  for (std::size_t place = 0; place < chunk.size(); ++place) {
    const ConstNeighborRow answer = answers.row(static_cast<std::int64_t>(place));
    const NeighborRow row = out.row(chunk[place].query);
    std::ranges::copy(answer.neighbors, row.neighbors.begin());
    std::ranges::copy(answer.distances, row.distances.begin());
  }
}

class IvfIndex final : public Index {
 public:
  IvfIndex(Metric metric, const EngineOptions& options, const IvfOverrides& overrides)
      : metric_(metric),
        threads_(options.threads),
        isa_(find_isa(options.isa)),
        overrides_(overrides),
        searches_(static_cast<std::size_t>(std::max(options.threads, 1))) {
    check_threads(options.threads);
  }

  void build(TypedView base, RowIds ids, RowLists lists) override;
  void search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
              TopK& out) override;

  const SearchCounters& counters() const override { return counters_; }
  std::size_t bytes() const override;
  std::string description() const override {
    return "cpu " + std::string(isa_.name) + " (" + std::string(isa_.screen_name) + ", by list)";
  }

 private:
  CpuSearchPlan plan(const ListSearchShape& shape) const;
  void order_queries(const ListContext& context);
  void cut_chunks(std::int64_t chunk_queries);
  void share_queries(const ListContext& context, TopK& out);
  void share_lists(const ListContext& context, TopK& out);
  void note_widened(const ListSearch& search, std::span<const ProbingQuery> chunk);

  Metric metric_;
  int threads_;
  const Isa& isa_;
  IvfOverrides overrides_;
  SearchContext context_;
  RowLists lists_;
  RowNorms norms_;
  std::vector<ListSearch> searches_;  // one a thread
  ProbeWalk walk_;
  std::vector<ProbingQuery> probing_;    // of the current search, by nearest list
  std::vector<std::size_t> chunk_ends_;  // places in probing_
  WidenedQueries widened_;               // of the current search
  SearchCounters counters_;
};

void IvfIndex::build(TypedView base, RowIds ids, RowLists lists) {
  check_build(base, ids);
  check_lists(base, lists);
  const DefaultFloatEnvironment environment;
  norms_.build(base, metric_, isa_, threads_);
  context_ = {metric_, &isa_, {base, &norms_, 1}, ids, norms_.maxima().norm, overrides_.error_factor};
  lists_ = lists;
}

CpuSearchPlan IvfIndex::plan(const ListSearchShape& shape) const {
  const CpuLimits limits{.threads = threads_, .isa = isa_.name};
  CpuSearchPlan plan = plan_cpu_list_search(shape, limits);
  plan.query_tile = overrides_.query_tile.value_or(plan.query_tile);
  plan.chunk_queries = overrides_.chunk_queries.value_or(plan.chunk_queries);
  plan.base_tile = overrides_.base_tile.value_or(plan.base_tile);
  plan.buffer_entries = overrides_.buffer_entries.value_or(plan.buffer_entries);
  plan.split_base = overrides_.split_base.value_or(plan.split_base);
  if (plan.split_base) plan.chunk_queries = std::max(plan.chunk_queries, shape.rows.nq);
  return plan;
}

void IvfIndex::search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
                      TopK& out) {
  const TypedView& base = context_.base.rows;
  check_probes(queries, probes);
  check_search(base, queries, bound, out, metric_);
  fill_padding(out);
  widened_.reset(queries.rows);
  const ListContext context{context_, lists_, queries, probes, bound};
  order_queries(context);
  if (probing_.empty()) return widened_.add_to(counters_);
  const DefaultFloatEnvironment environment;
  const OneBlasThread one_blas_thread;
  const ListSearchShape shape{
      {base.rows, queries.rows, base.cols, out.k(), base.dtype}, lists_.count(), probes.cols};
  const CpuSearchPlan plan = this->plan(shape);
  for (ListSearch& search : searches_) {
    search.reserve(plan, shape, isa_);
    search.reset_counters();
  }
  if (plan.split_base) {
    share_lists(context, out);
  } else {
    cut_chunks(plan.chunk_queries);
    share_queries(context, out);
  }
  drop_beyond_bound(out, bound);
  for (const ListSearch& search : searches_) counters_ += search.counters();
  widened_.add_to(counters_);
}

void IvfIndex::order_queries(const ListContext& context) {
  walk_.begin(lists_);
  set_size(probing_, context.queries.rows);
  probing_.clear();
  for (std::int64_t query = 0; query < context.queries.rows; ++query) {
    ProbingQuery probing{query, -1, 0};
    walk_.each(probes_of(context.probes, query), [&](std::int64_t list) {
      if (probing.nearest_list < 0) probing.nearest_list = list;
      probing.rows += walk_.rows(list).size();
    });
    if (probing.rows > 0) probing_.push_back(probing);
  }
  std::ranges::sort(probing_, {}, [](const ProbingQuery& q) { return std::pair(q.nearest_list, q.query); });
}

/// Chunks of as many rows to screen, as many for each thread, of no more queries than there is room for.
void IvfIndex::cut_chunks(std::int64_t chunk_queries) {
  const auto most = static_cast<std::size_t>(chunk_queries);
  const auto threads = static_cast<std::size_t>(threads_);
  const std::size_t needed = (probing_.size() + most - 1) / most;
  const std::size_t n_chunks = (needed + threads - 1) / threads * threads;
  double total = 0;
  for (const ProbingQuery& probing : probing_) total += static_cast<double>(probing.rows);
  chunk_ends_.clear();
  double rows = 0;
  std::size_t begin = 0;
  for (std::size_t end = 1; end <= probing_.size(); ++end) {
    rows += static_cast<double>(probing_[end - 1].rows);
    const double share = total * static_cast<double>(chunk_ends_.size() + 1) / static_cast<double>(n_chunks);
    if (end - begin < most && rows < share && end < probing_.size()) continue;
    chunk_ends_.push_back(end);
    begin = end;
  }
}

void IvfIndex::share_queries(const ListContext& context, TopK& out) {
  const std::span<const ProbingQuery> all = probing_;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
  for (std::size_t c = 0; c < chunk_ends_.size(); ++c) {
    const DefaultFloatEnvironment environment;
    const std::size_t begin = c == 0 ? 0 : chunk_ends_[c - 1];
    const auto chunk = all.subspan(begin, chunk_ends_[c] - begin);
    ListSearch& search = searches_[static_cast<std::size_t>(omp_get_thread_num())];
    search.search(context, chunk, {});
    put_rows(search.answers(), chunk, out);
    note_widened(search, chunk);
  }
}

void IvfIndex::share_lists(const ListContext& context, TopK& out) {
#pragma omp parallel for num_threads(threads_) schedule(static, 1)
  for (int t = 0; t < threads_; ++t) {
    const DefaultFloatEnvironment environment;
    searches_[static_cast<std::size_t>(t)].search(context, probing_, {t, threads_});
  }
  TopK& merged = searches_.front().answers();
  for (std::size_t t = 1; t < searches_.size(); ++t) merge_into(merged, searches_[t].answers());
  put_rows(merged, probing_, out);
  for (const ListSearch& search : searches_) note_widened(search, probing_);
}

void IvfIndex::note_widened(const ListSearch& search, std::span<const ProbingQuery> chunk) {
  for (std::size_t place = 0; place < chunk.size(); ++place)
    if (search.is_widened(static_cast<std::int64_t>(place))) widened_.note(chunk[place].query);
}

std::size_t IvfIndex::bytes() const {
  std::size_t total =
      norms_.bytes() + walk_.bytes() + bytes_of(probing_) + bytes_of(chunk_ends_) + widened_.bytes();
  for (const ListSearch& search : searches_) total += search.bytes();
  return total;
}

}  // namespace

std::unique_ptr<Index> make_ivf(Metric metric, const EngineOptions& options) {
  return make_ivf(metric, options, {});
}

std::unique_ptr<Index> make_ivf(Metric metric, const EngineOptions& options, const IvfOverrides& overrides) {
  return std::make_unique<IvfIndex>(metric, options, overrides);
}

}  // namespace mpishards::kernels::cpu

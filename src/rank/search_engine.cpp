#include "rank/search_engine.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/coded_ivf.hpp"
#include "kernels/search_plan.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// A second stop signal is obeyed between pieces of at least so many queries, of more where rows are few, and
/// of the most where queries look into some lists alone: the more there are, the more share a list.
constexpr std::int64_t kLeastPieceQueries = 2048;
constexpr std::int64_t kMostPieceQueries = 16384;
constexpr double kPieceFlops = 1e12;
/// Lists that queries which look into all of them may name at once.
constexpr std::int64_t kMostProbes = 1 << 22;

/// Answers to the queries from `first` on.
void put_rows(const TopK& rows, std::int64_t first, TopK& into) {
  std::copy_n(rows.neighbors(), rows.nq() * rows.k(), into.neighbors() + first * into.k());
  std::copy_n(rows.distances(), rows.nq() * rows.k(), into.distances() + first * into.k());
}

}  // namespace

SearchEngine::SearchEngine(const SearchEngineConfig& config, const comm::Communicator& comm,
                           PhaseClock& clock)
    : config_(config),
      comm_(comm),
      clock_(clock),
      router_(make_router(config.router, config.routing)),
      index_(make_index_of(config)),
      merge_(merge::make_merge(config.merge)) {
  if (config.lists != nullptr)
    prober_ =
        std::make_unique<ListProber>(config.metric, config.lists->centroids, config.engine, config.options);
}

std::int64_t SearchEngine::bytes_beside(const SearchEngineConfig& config, std::int64_t rows, std::int64_t d,
                                        DType dtype) {
  const kernels::SearchShape shape{
      .nb = rows, .nq = kernels::kQueriesWorthPacking, .d = d, .k = 1, .dtype = dtype};
  return kernels::plan_cpu_search(shape, {.isa = config.options.isa, .may_pack = config.engine == "cpu"})
      .index_bytes;
}

std::unique_ptr<kernels::Index> SearchEngine::make_index_of(const SearchEngineConfig& config) {
  if (has_codes())
    return kernels::make_coded_ivf(config.metric, config.options, config.lists->codec,
                                   config.lists->centroids.view().as<float>());
  if (!config.has_faiss)
    return kernels::make_index(config.index, config.engine, config.metric, config.options);
  auto shards = std::make_unique<FaissShards>(config.metric, config.options.threads);
  faiss_ = shards.get();
  return shards;
}

void SearchEngine::set_nprobe(std::int64_t nprobe) {
  nprobe_ = config_.has_faiss ? nprobe : std::min(nprobe, config_.lists->count());
  if (faiss_ != nullptr) faiss_->set_parameter(nprobe);
}

void SearchEngine::load(TypedView base, kernels::RowIds ids, kernels::RowLists lists) {
  loaded_lists_ = lists;
  loaded_values_ = base.rows * base.cols;
  index_->build(base, ids, lists);
}

RoutedBatch SearchEngine::scatter(Matrix batch, std::int64_t d) {
  const PhaseClock::Scope scope(clock_, Phase::scatter);
  Routing routing;
  ProbeTable probes;
  const bool keeps_slice = has_codes() || config_.has_faiss;
  Matrix slice;
  if (keeps_slice || (prober_ && comm_.size() > 1)) slice = scatter_slices(comm_, batch, d);
  if (prober_) probes = probe_batch((comm_.size() > 1 ? slice : batch).view().as<float>(), batch.rows());
  comm::agree(comm_, [&] {
    if (comm_.is_root()) routing = router_->route(batch.view().as<float>(), probes);
  });
  RoutedBatch routed = distribute(comm_, std::move(batch), std::move(probes), routing, d);
  if (keeps_slice) routed.slice = std::move(slice);
  return routed;
}

/// The frontend's probes of a batch: every rank finds those of its slice. On root; elsewhere nothing.
ProbeTable SearchEngine::probe_batch(MatrixView<const float> slice, std::int64_t batch_nq) {
  ProbeTable mine;
  comm::agree(comm_, [&] { mine = prober_->probe(slice, nprobe_); });
  ProbeTable all{nprobe_, {}};
  all.lists.resize(static_cast<std::size_t>(batch_nq * nprobe_));
  std::vector<std::int64_t> counts = comm_.all_gather(std::ssize(mine.lists));
  comm_.gather_records<std::int32_t>(mine.lists, counts, all.lists);
  return all;
}

TopK SearchEngine::search(const RoutedBatch& batch, std::span<const float> bound, std::int64_t k) {
  TopK local;
  {
    const PhaseClock::Scope scope(clock_, Phase::search);
    comm::agree(comm_, [&] {
      local = search_shard(batch, bound, k);
      clock_.enter(Phase::wait);  // for the slowest rank
    });
  }
  const PhaseClock::Scope scope(clock_, Phase::merge);
  return merge_->merge(local, comm_);
}

TopK SearchEngine::search_all_lists(MatrixView<const float> queries, std::int64_t k) {
  const PhaseClock::Scope scope(clock_, Phase::search);
  TopK local(queries.rows, k, config_.metric);
  comm::agree(comm_, [&] {
    const std::int64_t n_lists = loaded_lists_.count();
    if (n_lists == 0) return;
    const std::int64_t step = std::clamp<std::int64_t>(kMostProbes / n_lists, 1, queries.rows);
    ProbeTable every{n_lists, {}};
    for (std::int64_t q = 0; q < step; ++q)
      for (std::int64_t list = 0; list < n_lists; ++list)
        every.lists.push_back(narrow<std::int32_t>(loaded_lists_.first_list + list));
    for (std::int64_t begin = 0; begin < queries.rows; begin += step) {
      const std::int64_t end = std::min(queries.rows, begin + step);
      TopK piece(end - begin, k, config_.metric);
      index_->search(queries.slice(begin, end), every.view().slice(0, end - begin), {}, piece);
      put_rows(piece, begin, local);
    }
  });
  return merge_->merge(local, comm_);
}

std::int64_t SearchEngine::piece_queries() const {
  if (loaded_values_ == 0) return kLeastPieceQueries;  // FAISS' own shards: what a query costs is not known
  const double queries = kPieceFlops / (2.0 * static_cast<double>(loaded_values_));
  return static_cast<std::int64_t>(
      std::clamp(queries, static_cast<double>(kLeastPieceQueries), static_cast<double>(kMostPieceQueries)));
}

void SearchEngine::search_in_pieces(MatrixView<const float> queries, const ProbeTable& probes,
                                    std::span<const float> bound, TopK& out) {
  const std::int64_t step = probes.nprobe > 0 ? kMostPieceQueries : piece_queries();
  for (std::int64_t begin = 0; begin < queries.rows; begin += step) {
    if (stop_level() >= 2) throw Error(ErrorKind::stopped, "stopped in the middle of a batch");
    const std::int64_t end = std::min(queries.rows, begin + step);
    if (end - begin == queries.rows) return index_->search(queries, probes.view(), bound, out);
    TopK piece(end - begin, out.k(), config_.metric);
    const auto count = static_cast<std::size_t>(end - begin);
    const kernels::Probes own = probes.nprobe > 0 ? probes.view().slice(begin, end) : kernels::Probes{};
    index_->search(queries.slice(begin, end), own,
                   bound.empty() ? bound : bound.subspan(static_cast<std::size_t>(begin), count), piece);
    put_rows(piece, begin, out);
  }
}

TopK SearchEngine::search_shard(const RoutedBatch& batch, std::span<const float> bound, std::int64_t k) {
  TopK local(batch.batch_nq, k, config_.metric);
  const MatrixView<const float> queries = batch.queries.view().as<float>();
  if (batch.all) {
    search_in_pieces(queries, batch.probes, bound, local);
    return local;
  }
  std::vector<float> routed_bound;
  if (!bound.empty())
    for (const std::int64_t position : batch.positions)
      routed_bound.push_back(bound[static_cast<std::size_t>(position)]);
  TopK routed(batch.queries.rows(), k, config_.metric);
  search_in_pieces(queries, batch.probes, routed_bound, routed);
  for (std::size_t i = 0; i < batch.positions.size(); ++i) {
    const ConstNeighborRow from = std::as_const(routed).row(static_cast<std::int64_t>(i));
    const NeighborRow to = local.row(batch.positions[i]);
    std::ranges::copy(from.neighbors, to.neighbors.begin());
    std::ranges::copy(from.distances, to.distances.begin());
  }
  return local;
}

}  // namespace mpishards::rank

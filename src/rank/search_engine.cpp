#include "rank/search_engine.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// A second stop signal is obeyed between pieces of this many queries.
constexpr std::int64_t kPieceQueries = 2048;

}  // namespace

SearchEngine::SearchEngine(const SearchEngineConfig& config, const comm::Communicator& comm,
                           PhaseClock& clock)
    : metric_(config.metric),
      comm_(comm),
      clock_(clock),
      router_(make_router(config.router)),
      index_(kernels::make_index(config.index, config.engine, config.metric, config.options)),
      merge_(merge::make_merge(config.merge)) {}

void SearchEngine::load(TypedView base, kernels::RowIds ids) {
  index_->build(base, ids);
}

RoutedBatch SearchEngine::scatter(Matrix batch, std::int64_t d) {
  const PhaseClock::Scope scope(clock_, Phase::scatter);
  Routing routing;
  if (comm_.is_root()) routing = router_->route(batch.view().as<float>(), comm_.size());
  return distribute(comm_, std::move(batch), routing, d);
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

void SearchEngine::search_in_pieces(MatrixView<const float> queries, std::span<const float> bound,
                                    TopK& out) {
  for (std::int64_t begin = 0; begin < queries.rows; begin += kPieceQueries) {
    if (stop_level() >= 2) throw Error(ErrorKind::stopped, "stopped in the middle of a batch");
    const std::int64_t end = std::min(queries.rows, begin + kPieceQueries);
    if (end - begin == queries.rows) return index_->search(queries, bound, out);
    TopK piece(end - begin, out.k(), metric_);
    const auto count = static_cast<std::size_t>(end - begin);
    index_->search(queries.slice(begin, end),
                   bound.empty() ? bound : bound.subspan(static_cast<std::size_t>(begin), count), piece);
    std::copy_n(piece.neighbors(), (end - begin) * out.k(), out.neighbors() + begin * out.k());
    std::copy_n(piece.distances(), (end - begin) * out.k(), out.distances() + begin * out.k());
  }
}

TopK SearchEngine::search_shard(const RoutedBatch& batch, std::span<const float> bound, std::int64_t k) {
  TopK local(batch.batch_nq, k, metric_);
  const MatrixView<const float> queries = batch.queries.view().as<float>();
  if (batch.all) {
    search_in_pieces(queries, bound, local);
    return local;
  }
  std::vector<float> routed_bound;
  if (!bound.empty())
    for (const std::int64_t position : batch.positions)
      routed_bound.push_back(bound[static_cast<std::size_t>(position)]);
  TopK routed(batch.queries.rows(), k, metric_);
  search_in_pieces(queries, routed_bound, routed);
  for (std::size_t i = 0; i < batch.positions.size(); ++i) {
    const ConstNeighborRow from = std::as_const(routed).row(static_cast<std::int64_t>(i));
    const NeighborRow to = local.row(batch.positions[i]);
    std::ranges::copy(from.neighbors, to.neighbors.begin());
    std::ranges::copy(from.distances, to.distances.begin());
  }
  return local;
}

}  // namespace mpishards::rank

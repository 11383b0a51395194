#include <algorithm>
#include <iterator>

#include "core/error.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {

namespace {

/// A query goes to the ranks that hold rows of a list that it looks into.
///
/// The answer is that of one node with the same centroids: the probes are decided once, here, from the
/// centroids alone; a row can be in the answer only if its list is probed; and every rank with rows of a
/// probed list sees the query, also where a list is cut between ranks. What the other ranks would have
/// searched for it is nothing.
class RouterLists : public Router {
 public:
  explicit RouterLists(const RouterContext& context) : lists_of_rank_(context.lists_of_rank) {}

  Routing route(MatrixView<const float> queries, const ProbeTable& probes) const override {
    Routing routing;
    routing.all = false;
    routing.by_rank.resize(lists_of_rank_.size());
    for (std::int64_t q = 0; q < queries.rows; ++q)
      for (std::size_t rank = 0; rank < lists_of_rank_.size(); ++rank)
        if (std::ranges::any_of(probes.row(q), [&](std::int32_t list) { return holds(rank, list); }))
          routing.by_rank[rank].push_back(q);
    const bool all_see_all = std::ranges::all_of(
        routing.by_rank, [&](const auto& positions) { return std::ssize(positions) == queries.rows; });
    if (all_see_all) return {};  // nothing is picked and copied then
    return routing;
  }

 private:
  bool holds(std::size_t rank, std::int32_t list) const {
    return lists_of_rank_[rank].begin <= list && list < lists_of_rank_[rank].end;
  }

  std::vector<io::Range> lists_of_rank_;
};

}  // namespace

std::unique_ptr<Router> make_router_lists(const RouterContext& context) {
  if (context.lists_of_rank.empty())
    throw Error(ErrorKind::usage,
                "the router 'lists' needs an index of lists that stays in memory; use --router all");
  return std::make_unique<RouterLists>(context);
}

}  // namespace mpishards::rank

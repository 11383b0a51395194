#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/matrix_view.hpp"
#include "io/range.hpp"
#include "rank/inverted_lists.hpp"

namespace mpishards::rank {

/// Which queries of a batch go to which rank.
struct Routing {
  /// Every rank searches every query; `by_rank` is empty then.
  bool all = true;
  /// by_rank[r]: ascending positions in the batch of the queries that rank r's shard must see.
  std::vector<std::vector<std::int64_t>> by_rank;
};

/// What a router may know of the job.
struct RouterContext {
  int n_ranks = 1;
  /// Lists that rank r holds rows of, as [first, last + 1); empty where there are no lists.
  std::vector<io::Range> lists_of_rank;
};

/// Decides, on the frontend, which shards see which query. Each router says why its answers are exact, or how
/// far they may miss.
class Router {
 public:
  virtual ~Router() = default;
  /// @param queries  batch_nq x d, the whole batch
  /// @param probes   lists that each looks into; without lists there are none
  virtual Routing route(MatrixView<const float> queries, const ProbeTable& probes) const = 0;
};

struct RouterRow {
  std::string_view name;
  std::unique_ptr<Router> (*make)(const RouterContext& context);
  std::string_view help;
};
std::span<const RouterRow> router_registry();

/// @throws Error{usage} listing the known names, or where the router needs lists and there are none
std::unique_ptr<Router> make_router(std::string_view name, const RouterContext& context);

std::unique_ptr<Router> make_router_all(const RouterContext& context);
std::unique_ptr<Router> make_router_lists(const RouterContext& context);

}  // namespace mpishards::rank

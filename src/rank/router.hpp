#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/matrix_view.hpp"

namespace mpishards::rank {

/// Which queries of a batch go to which rank.
struct Routing {
  /// Every rank searches every query; `by_rank` is empty then.
  bool all = true;
  /// by_rank[r]: ascending positions in the batch of the queries that rank r's shard must see.
  std::vector<std::vector<std::int64_t>> by_rank;
};

/// Decides, on the frontend, which shards see which query. Each router says why its answers are exact, or how
/// far they may miss.
class Router {
 public:
  virtual ~Router() = default;
  /// @param queries  batch_nq x d, the whole batch
  /// @post every query goes to at least one rank
  virtual Routing route(MatrixView<const float> queries, int n_ranks) const = 0;
};

struct RouterRow {
  std::string_view name;
  std::unique_ptr<Router> (*make)();
  std::string_view help;
};
std::span<const RouterRow> router_registry();

/// @throws Error{usage} listing the known names
std::unique_ptr<Router> make_router(std::string_view name);

std::unique_ptr<Router> make_router_all();

}  // namespace mpishards::rank

#include <string>

#include "core/error.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {

namespace {

constexpr RouterRow kRouters[] = {
    {"all", make_router_all, "every shard sees every query: exact"},
    {"lists", make_router_lists, "the shards that hold a list that the query looks into"},
};

}  // namespace

std::span<const RouterRow> router_registry() {
  return kRouters;
}

std::unique_ptr<Router> make_router(std::string_view name, const RouterContext& context) {
  std::string known;
  for (const RouterRow& row : kRouters) {
    if (row.name == name) return row.make(context);
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorKind::usage, "unknown router '" + std::string(name) + "'; known: " + known);
}

}  // namespace mpishards::rank

#include <string>

#include "core/error.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {

namespace {

constexpr RouterRow kRouters[] = {
    {"all", make_router_all, "every shard sees every query: exact"},
};

}  // namespace

std::span<const RouterRow> router_registry() {
  return kRouters;
}

std::unique_ptr<Router> make_router(std::string_view name) {
  std::string known;
  for (const RouterRow& row : kRouters) {
    if (row.name == name) return row.make();
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorKind::usage, "unknown router '" + std::string(name) + "'; known: " + known);
}

}  // namespace mpishards::rank

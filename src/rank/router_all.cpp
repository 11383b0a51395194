#include "rank/router.hpp"

namespace mpishards::rank {

namespace {

/// Every shard sees every query. Exact: no shard that could hold a neighbor is left out.
class RouterAll : public Router {
 public:
  Routing route(MatrixView<const float> /*queries*/, const ProbeTable& /*probes*/) const override {
    return {};
  }
};

}  // namespace

std::unique_ptr<Router> make_router_all(const RouterContext& /*context*/) {
  return std::make_unique<RouterAll>();
}

}  // namespace mpishards::rank

#pragma once

#include <memory>

#include "serve/observability.hpp"
#include "serve/server.hpp"

namespace mpishards::serve {

/// HTTP: /healthz /readyz /metrics /version /shards, and Milvus' REST API v2 below /v2/vectordb/.
///
/// Where tokens are configured, all but the two probes ask for one.
/// @param observability  outlives the front
/// @throws Error{unavailable} where the address is taken or TLS files are bad
std::unique_ptr<Front> make_http_front(const FrontContext& context, const Observability& observability);

}  // namespace mpishards::serve

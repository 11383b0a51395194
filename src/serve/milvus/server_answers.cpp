// Answers about the server itself.
#include <nlohmann/json.hpp>

#include "core/version.hpp"
#include "serve/milvus/answers.hpp"

namespace mpishards::serve::milvus {

namespace {

/// Clients that read versions expect one of Milvus: the generation whose protocol this is.
std::string protocol_version() {
  return "v2.6.0-mpishards-" + std::string(version());
}

/// The whole server, all ranks, shows itself as one healthy node.
constexpr std::int64_t kNode = 1;

}  // namespace

void answer(const Asked& /*asked*/, const pb::ConnectRequest& /*request*/, pb::ConnectResponse& response) {
  common::ServerInfo& info = *response.mutable_server_info();
  info.set_build_tags(protocol_version());
  info.set_build_time("");
  info.set_git_commit(std::string(revision()));
  info.set_go_version("none: C++20");
  info.set_deploy_mode("DISTRIBUTED");
  response.set_identifier(static_cast<std::int64_t>(hybrid_timestamp()));
}

void answer(const Asked& /*asked*/, const pb::GetVersionRequest& /*request*/,
            pb::GetVersionResponse& response) {
  response.set_version(protocol_version());
}

void answer(const Asked& asked, const pb::CheckHealthRequest& /*request*/,
            pb::CheckHealthResponse& response) {
  response.set_ishealthy(asked.front.state.is_ready);
  if (!asked.front.state.is_ready)
    response.add_reasons(asked.front.state.is_draining ? "the server is shutting down"
                                                       : "collections are still being loaded");
}

void answer(const Asked& /*asked*/, const pb::AllocTimestampRequest& /*request*/,
            pb::AllocTimestampResponse& response) {
  response.set_timestamp(hybrid_timestamp());
}

void answer(const Asked& /*asked*/, const pb::GetMetricsRequest& /*request*/,
            pb::GetMetricsResponse& response) {
  const nlohmann::json node = {{"identifier", kNode},
                               {"connected", nlohmann::json::array()},
                               {"infos",
                                {{"name", "mpishards"},
                                 {"type", "proxy"},
                                 {"id", kNode},
                                 {"has_error", false},
                                 {"system_info",
                                  {{"build_version", protocol_version()},
                                   {"system_version", protocol_version()},
                                   {"deploy_mode", "DISTRIBUTED"}}}}}};
  response.set_response(nlohmann::json{{"nodes_info", nlohmann::json::array({node})}}.dump());
  response.set_component_name("proxy");
}

void answer(const Asked& asked, const pb::GetComponentStatesRequest& /*request*/,
            pb::ComponentStates& response) {
  pb::ComponentInfo& state = *response.mutable_state();
  state.set_nodeid(kNode);
  state.set_role("proxy");
  state.set_state_code(asked.front.state.is_ready      ? common::Healthy
                       : asked.front.state.is_draining ? common::Stopping
                                                       : common::Initializing);
}

}  // namespace mpishards::serve::milvus

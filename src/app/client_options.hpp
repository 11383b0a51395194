#pragma once

#include "app/cli.hpp"
#include "serve/client.hpp"

namespace mpishards::app {

/// Adds --address, --discovery-file, --token-file, --tls-ca and --timeout.
void declare_client_options(Cli& cli);

/// @throws Error{usage} where it is not said which server; Error{unavailable} where the discovery file is not
/// there, because no server is ready
serve::ClientConfig to_client_config(const cxxopts::ParseResult& parsed);

}  // namespace mpishards::app

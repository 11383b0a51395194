#pragma once

#include "app/options.hpp"
#include "serve/server.hpp"

namespace mpishards::app {

/// The options of `serve`.
OptionTable serve_options();

/// Replaces globs and lists among the collections' files, so that every rank sees the same files.
/// @throws Error{usage|input_missing}
void expand_collection_settings(Settings& settings);

/// @pre settings come from combine() with serve_options()
/// @throws Error{usage} where there is no collection, or one has no name or two files of different meaning
serve::ServerConfig to_server_config(const Settings& settings);

}  // namespace mpishards::app

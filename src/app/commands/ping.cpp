#include <cstdio>

#include "app/cli.hpp"
#include "app/client_options.hpp"
#include "app/commands/commands.hpp"
#include "core/timer.hpp"
#include "serve/client.hpp"

namespace mpishards::app {

int run_ping(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("ping", "[--address HOST:PORT | --discovery-file FILE] [options]",
          "Asks a server whether it is ready. Exit code 0: it is; 69: it is not there or not ready; 77: the "
          "token is "
          "wrong.",
          "mpishards ping --discovery-file server.addr");
  declare_client_options(cli);
  const auto parsed = cli.parse(arguments, world);
  if (!parsed) return 0;
  const serve::ClientConfig config = to_client_config(*parsed);
  serve::Client client(config);
  const double begin = steady_seconds();
  const std::string version = client.ping();
  std::printf("%s is ready: %s, %.1f ms\n", config.address.c_str(), version.c_str(),
              (steady_seconds() - begin) * 1e3);
  return 0;
}

}  // namespace mpishards::app

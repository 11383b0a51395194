#include "app/commands/commands.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "app/cli.hpp"
#include "core/version.hpp"

namespace mpishards::app {

int run_version(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("version", "[--json]", "Prints version, git revision and build type.", "mpishards version --json");
  cli.add()("json", "machine-readable output");
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  if (options->count("json") > 0) {
    const nlohmann::json json = {{"schema", "mpishards.version/1"},
                                 {"version", version()},
                                 {"revision", revision()},
                                 {"build_type", build_type()}};
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf("mpishards %s (%s, %s)\n", std::string(version()).c_str(), std::string(revision()).c_str(),
                std::string(build_type()).c_str());
  }
  return 0;
}

}  // namespace mpishards::app

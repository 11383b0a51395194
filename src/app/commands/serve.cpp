#include <cstdio>
#include <string>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/job_start.hpp"
#include "app/serve_options.hpp"
#include "app/signals.hpp"
#include "kernels/index.hpp"
#include "rank/job_inputs.hpp"
#include "serve/observer.hpp"
#include "serve/server.hpp"

namespace mpishards::app {

namespace {

Cli serve_cli() {
  Cli cli(
      "serve", "--collection NAME=FILE[:DATASET]... [options]",
      "Keeps collections in the memory of all ranks and answers exact nearest-neighbour searches of Milvus\n"
      "clients until SIGTERM or SIGUSR1; SIGHUP or SIGUSR2 reads the files again.\n"
      "Every option is also a key of the --job file (TOML) and an environment variable\n"
      "(MPISHARDS_LISTEN for --listen); flags win over the environment, that over the file.",
      "mpirun -n 4 mpishards serve --collection docs=emb.h5:/train --metric cosine --listen 127.0.0.1:19530\n"
      "  srun --mpi=pmix mpishards serve --collection docs=emb.h5 --listen 0.0.0.0:19530 --token-file tokens "
      "--discovery-file server.addr");
  declare_options(cli, serve_options());
  return cli;
}

/// Everything that is said about the server, as one text; empty if --help was asked for.
std::string gather_settings(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli = serve_cli();
  const std::optional<SettingSources> said = read_settings(cli, arguments, world, serve_options());
  if (!said) return "";
  Settings settings = combine(said->flags, said->environment, said->job_file, serve_options());
  expand_collection_settings(settings);
  to_server_config(settings);  // whatever is wrong with them is said once, not by every rank
  return serialize(settings);
}

}  // namespace

int run_serve(const Arguments& arguments, const comm::Communicator& world) {
  refuse_copies(world);
  const std::string text = decide_on_root(world, [&] { return gather_settings(arguments, world); });
  if (text.empty()) return 0;
  const Settings settings = deserialize_settings(text);
  if (world.is_root() && settings.at("verbose").text() == "true")
    std::fputs(to_toml(settings, true, serve_options()).c_str(), stderr);
  serve::ServerConfig config = to_server_config(settings);
  config.engine.engine = kernels::resolve_engine(config.engine.engine);
  if (config.engine.options.threads == 0)
    config.engine.options.threads = rank::default_threads(world.split_by_host());
  const kernels::DevicePlace place = rank::device_of_rank(world.split_by_host(), config.engine.engine);
  config.engine.options.device = place.device;
  config.engine.options.device_ranks = place.ranks;
  install_stop_signals(false);
  install_reload_signals();
  serve::Observers observers;
  serve::run_server(config, world, observers);
  silence_stop_signals();
  return 0;
}

}  // namespace mpishards::app

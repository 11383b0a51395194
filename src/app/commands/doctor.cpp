#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/doctor_checks.hpp"
#include "app/options.hpp"
#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "rank/host_info.hpp"
#include "rank/job_inputs.hpp"

namespace mpishards::app {

namespace {

double wall_clock_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Hosts whose clocks differ write start times and lock ages that the others misread. Collective over world.
Check check_clock(const comm::Communicator& world) {
  constexpr double kLargeSkewSeconds = 1.0;
  world.barrier();
  const double now = wall_clock_seconds();
  const double skew = world.max(now) - world.min(now);
  char text[64];
  std::snprintf(text, sizeof(text), "ranks differ by at most %.3f s", skew);
  Check check{"clock", Level::ok, text, "", true};
  if (skew > kLargeSkewSeconds) {
    check.level = Level::warn;
    check.remedy = "synchronise the hosts' clocks (chrony, ntpd)";
  }
  return check;
}

/// Collective over host.
int threads_of(const cxxopts::ParseResult& options, const comm::Communicator& host) {
  const int as_search_would = rank::default_threads(host);
  if (options.count("threads") == 0) return as_search_would;
  return narrow<int>(std::max<std::int64_t>(1, parse_count(options["threads"].as<std::string>())));
}

/// Prints on rank 0, and returns its verdict on every rank. Collective over world.
Level report(const std::vector<Check>& mine, bool as_json, const comm::Communicator& world) {
  const std::vector<std::string> texts = world.gather_texts(serialize(mine));
  Level level = Level::ok;
  if (world.is_root()) {
    std::vector<std::vector<Check>> by_rank;
    for (const std::string& text : texts) by_rank.push_back(deserialize_checks(text));
    const std::vector<JobCheck> checks = compare_checks(by_rank);
    level = worst_level(checks);
    const std::string out =
        as_json ? doctor_json(checks, world.size()).dump() + "\n" : doctor_text(checks, world.size());
    std::fputs(out.c_str(), stdout);
  }
  world.broadcast(level);
  return level;
}

}  // namespace

int run_doctor(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("doctor", "[--path FOLDER] [--threads N] [--json]",
          "Looks at MPI, libraries, CPU, GPUs, memory, binding and file system on every rank, and says what "
          "will not "
          "work. Ends with 69 where a line says FAIL.",
          "mpirun -n 4 mpishards doctor --path /scratch/me");
  cli.add()("path", "folder that results will be written to",
            cxxopts::value<std::string>()->default_value("."),
            "FOLDER")("threads", "threads a rank will use (default: its cores)",
                      cxxopts::value<std::string>(), "N")("json", "machine-readable output");
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;

  JobFacts job;
  job.n_ranks = world.size();
  const comm::Communicator host = world.split_by_host();
  job.local_ranks = host.size();
  job.threads = threads_of(*options, host);
  job.folder = (*options)["path"].as<std::string>();
  std::vector<Check> mine;
  comm::agree(world, [&] { mine = run_checks(job); });
  mine.push_back(check_clock(world));
  const Level level = report(mine, options->count("json") > 0, world);
  return level == Level::fail ? exit_code(ErrorKind::unavailable) : 0;
}

}  // namespace mpishards::app

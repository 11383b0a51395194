#include <cstdio>

#include "app/batch_command.hpp"
#include "app/build_report.hpp"
#include "app/commands/commands.hpp"
#include "app/job_start.hpp"
#include "app/progress.hpp"
#include "app/signals.hpp"
#include "core/error.hpp"
#include "rank/build_job.hpp"

namespace mpishards::app {

namespace {

int print_dry_run(const BatchOptions& options, const comm::Communicator& world) {
  const rank::PreparedBuild prepared = rank::prepare_build_job(options.job, world);
  if (!world.is_root()) return 0;
  if (options.json)
    std::printf("%s\n", build_plan_json(prepared).dump(2).c_str());
  else
    print_plan(rank::to_string(prepared.plan, prepared.shape), prepared.warnings, stdout);
  return 0;
}

rank::BuildSummary build_with_progress(const BatchOptions& options, const comm::Communicator& world) {
  ProgressDisplay display(options.job.output, ProgressDisplay::style_for(stderr, options.quiet), stderr);
  rank::BuildObserver observer;
  observer.began = [&](const rank::Progress& progress, const std::string& resumed) {
    say_resumed(options, resumed);
    display.begin(progress);
  };
  observer.progress = [&](const rank::Progress& progress) { display.update(progress); };
  if (!options.quiet)
    observer.prepared = [](const rank::PreparedBuild& prepared) {
      print_plan(rank::to_string(prepared.plan, prepared.shape), prepared.warnings, stderr);
    };
  const SilenceAtEnd silence_at_end;
  rank::BuildSummary summary = rank::run_build_job(options.job, world, observer);
  if (world.is_root()) display.end(!summary.stopped);
  return summary;
}

void print_summary(const BatchOptions& options, const rank::BuildSummary& summary) {
  if (options.json)
    std::printf("%s\n", build_report_json(options.job, summary).dump(2).c_str());
  else if (!options.quiet && !summary.stopped)
    std::fputs(build_report_text(options.job, summary).c_str(), stdout);
  if (summary.stopped) say_stopped(options);
}

}  // namespace

int run_build(const Arguments& arguments, const comm::Communicator& world) {
  const BatchCommand command = {
      .kind = BatchKind::build,
      .usage = "[--base FILE... --index SPEC | --import FILE.index] -o DIR [options]",
      .description =
          "Builds an index of a base, on all ranks of an MPI job: a folder with a manifest and shards that "
          "any\n"
          "number of ranks can search later. The same files for any number of ranks; stopped or killed, the\n"
          "same line continues. Options are also keys of the --job file (TOML) and environment variables, "
          "as\n"
          "for mpishards search.",
      .example =
          "mpirun -n 4 mpishards build --base emb.h5:/train --index ivf1024 --metric l2 -o emb.index\n"
          "  mpishards build --import faiss.index -o emb.index"};
  const std::optional<BatchOptions> options = read_batch_options(command, arguments, world);
  if (!options) return 0;
  if (options->dry_run) return print_dry_run(*options, world);
  install_stop_signals(world.is_root() && !options->quiet);
  const rank::BuildSummary summary = build_with_progress(*options, world);
  decide_on_root(world, [&]() -> std::string {
    print_summary(*options, summary);
    return "";
  });
  return summary.stopped ? exit_code(ErrorKind::stopped) : 0;
}

}  // namespace mpishards::app

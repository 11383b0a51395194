#include "app/batch_command.hpp"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "app/cli.hpp"
#include "app/html_report.hpp"
#include "app/job_file.hpp"
#include "app/options.hpp"
#include "app/plan_output.hpp"
#include "app/progress.hpp"
#include "app/report.hpp"
#include "app/shell_line.hpp"
#include "app/signals.hpp"
#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::app {

namespace {

/// Runs `step` on rank 0 and gives its text to all ranks, or its failure. Collective over world.
///
/// Unlike comm::agree the failure's text names no rank: what rank 0 decides is the whole job's business.
std::string decide_on_root(const comm::Communicator& world, const std::function<std::string()>& step) {
  std::string text;
  bool failed = false;
  ErrorKind kind = ErrorKind::internal;
  if (world.is_root()) {
    try {
      text = step();
    } catch (const Error& error) {
      failed = true;
      kind = error.kind();
      text = error.what();
    }
  }
  if (world.size() > 1) {
    world.broadcast(failed);
    world.broadcast(kind);
    world.broadcast_text(text);
  }
  if (failed) throw comm::AgreedError(kind, text);
  return text;
}

std::string text_of(const Settings& settings, std::string_view name) {
  const auto found = settings.find(name);
  return found == settings.end() ? "" : found->second.text();
}

/// Everything that is said about the job, as one text; empty if --help was asked for.
std::string gather_settings(const BatchCommand& command, const Arguments& arguments,
                            const comm::Communicator& world) {
  Cli cli(std::string(to_string(command.kind)), command.usage, command.description, command.example);
  declare_batch_options(cli, command.kind);
  const auto parsed = cli.parse(arguments, world);
  if (!parsed) return "";
  const Settings flags = flag_settings(*parsed);
  const Settings environment = environment_settings([](const char* name) { return std::getenv(name); });
  std::string job = text_of(flags, "job");
  if (job.empty()) job = text_of(environment, "job");
  Settings settings =
      combine(command.kind, flags, environment, job.empty() ? Settings() : read_job_file(job));
  expand_input_settings(settings);
  to_batch_options(command.kind, settings,
                   "");  // whatever is wrong with them is said once, not by every rank
  return serialize(settings);
}

/// The classic disaster: a launcher starts N processes and each believes to be alone.
void refuse_copies(const comm::Communicator& world) {
  const comm::Launcher launcher = comm::detect_launcher();
  if (world.size() == 1 && launcher.n_ranks > 1)
    throw Error(ErrorKind::config,
                launcher.name + " started " + std::to_string(launcher.n_ranks) +
                    " processes, but MPI joined none of them: these would be copies of one job; "
                    "use the mpirun of this program's MPI, or srun --mpi=pmix (srun --mpi=list "
                    "shows what there is)");
}

int print_dry_run(const BatchOptions& options, const comm::Communicator& world) {
  const rank::PreparedJob prepared = rank::prepare_search_job(options.job, world);
  if (!world.is_root()) return 0;
  if (options.json) {
    nlohmann::json plan = plan_json(prepared.plan, prepared.shape);
    plan["warnings"] = prepared.warnings;
    std::printf("%s\n", plan.dump(2).c_str());
    return 0;
  }
  std::fputs(rank::to_string(prepared.plan, prepared.shape).c_str(), stdout);
  for (const std::string& warning : prepared.warnings) std::printf("warning: %s\n", warning.c_str());
  return 0;
}

void announce(const rank::PreparedJob& prepared) {
  std::fputs(rank::to_string(prepared.plan, prepared.shape).c_str(), stderr);
  for (const std::string& warning : prepared.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
}

/// However the run ends, signals that come behind it are none of its user's.
struct SilenceAtEnd {
  ~SilenceAtEnd() { silence_stop_signals(); }
};

rank::SearchSummary run_with_progress(const BatchOptions& options, const comm::Communicator& world) {
  ProgressDisplay display(options.job.output, ProgressDisplay::style_for(stderr, options.quiet), stderr);
  rank::JobObserver observer;
  observer.began = [&](const rank::Progress& progress, const std::string& resumed) {
    if (!options.quiet && !resumed.empty()) std::fprintf(stderr, "resuming: %s\n", resumed.c_str());
    display.begin(progress);
  };
  observer.progress = [&](const rank::Progress& progress) { display.update(progress); };
  if (!options.quiet) observer.prepared = announce;
  const SilenceAtEnd silence_at_end;
  rank::SearchSummary summary = rank::run_search_job(options.job, world, observer);
  if (world.is_root()) display.end(!summary.stopped);
  return summary;
}

void print_summary(const BatchOptions& options, const rank::SearchSummary& summary) {
  if (options.json)
    std::printf("%s\n", report_json(options.job, summary).dump(2).c_str());
  else if (!options.quiet && !summary.stopped)
    std::fputs(report_text(options.job, summary).c_str(), stdout);
  if (summary.stopped && !options.quiet)
    std::fputs("mpishards: stopped cleanly; run the same command again to resume\n", stderr);
}

void write_reports(const BatchOptions& options, const rank::SearchSummary& summary) {
  if (!options.report || summary.stopped) return;
  const std::string& out = options.job.output;
  io::write_text_atomically(out + ".report.json", report_json(options.job, summary).dump(2) + "\n");
  io::write_text_atomically(out + ".report.html", report_html(options.job, summary));
}

}  // namespace

int run_batch_command(const BatchCommand& command, const Arguments& arguments,
                      const comm::Communicator& world) {
  refuse_copies(world);
  const std::string text = decide_on_root(world, [&] { return gather_settings(command, arguments, world); });
  if (text.empty()) return 0;
  const Settings settings = deserialize_settings(text);
  const BatchOptions options =
      to_batch_options(command.kind, settings, shell_line(to_string(command.kind), arguments));
  if (options.verbose && world.is_root()) std::fputs(to_toml(settings, true).c_str(), stderr);
  if (options.dry_run) return print_dry_run(options, world);

  install_stop_signals(world.is_root() && !options.quiet);
  const rank::SearchSummary summary = run_with_progress(options, world);
  decide_on_root(world, [&]() -> std::string {
    print_summary(options, summary);
    write_reports(options, summary);
    return "";
  });
  if (summary.stopped) return exit_code(ErrorKind::stopped);
  bool trusted = is_trusted(summary);
  world.broadcast(trusted);
  if (!trusted && world.is_root()) std::fprintf(stderr, "mpishards: %s\n", verdict(summary).c_str());
  return trusted ? 0 : exit_code(ErrorKind::internal);
}

}  // namespace mpishards::app

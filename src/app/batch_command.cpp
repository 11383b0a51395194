#include "app/batch_command.hpp"

#include <cstdio>
#include <optional>
#include <string>

#include "app/cli.hpp"
#include "app/html_report.hpp"
#include "app/job_start.hpp"
#include "app/options.hpp"
#include "app/plan_output.hpp"
#include "app/progress.hpp"
#include "app/report.hpp"
#include "app/shell_line.hpp"
#include "app/signals.hpp"
#include "comm/agree.hpp"
#include "core/error.hpp"
#include "io/file.hpp"
#include "rank/range_job.hpp"

namespace mpishards::app {

namespace {

/// Everything that is said about the job, as one text; empty if --help was asked for.
std::string gather_settings(const BatchCommand& command, const Arguments& arguments,
                            const comm::Communicator& world) {
  Cli cli(std::string(to_string(command.kind)), command.usage, command.description, command.example);
  declare_options(cli, options_of(command.kind));
  const std::optional<SettingSources> said = read_settings(cli, arguments, world, batch_options());
  if (!said) return "";
  Settings settings = combine(command.kind, said->flags, said->environment, said->job_file);
  expand_input_settings(settings);
  to_batch_options(command.kind, settings,
                   "");  // whatever is wrong with them is said once, not by every rank
  return serialize(settings);
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
  print_plan(rank::to_string(prepared.plan, prepared.shape), prepared.warnings, stdout);
  return 0;
}

void announce(const rank::PreparedJob& prepared) {
  print_plan(rank::to_string(prepared.plan, prepared.shape), prepared.warnings, stderr);
}

rank::SearchSummary run_with_progress(const BatchOptions& options, const comm::Communicator& world) {
  ProgressDisplay display(options.job.output, ProgressDisplay::style_for(stderr, options.quiet), stderr);
  rank::JobObserver observer;
  observer.began = [&](const rank::Progress& progress, const std::string& resumed) {
    say_resumed(options, resumed);
    display.begin(progress);
  };
  observer.progress = [&](const rank::Progress& progress) { display.update(progress); };
  if (!options.quiet) observer.prepared = announce;
  const SilenceAtEnd silence_at_end;
  const auto run = options.job.range ? rank::run_range_job : rank::run_search_job;
  rank::SearchSummary summary = run(options.job, world, observer);
  if (world.is_root()) display.end(!summary.stopped);
  return summary;
}

void print_summary(const BatchOptions& options, const rank::SearchSummary& summary) {
  if (options.json)
    std::printf("%s\n", report_json(options.job, summary).dump(2).c_str());
  else if (!options.quiet && !summary.stopped)
    std::fputs(report_text(options.job, summary).c_str(), stdout);
  if (summary.stopped) say_stopped(options);
}

void write_reports(const BatchOptions& options, const rank::SearchSummary& summary) {
  if (!options.report || summary.stopped) return;
  const std::string& out = options.job.output;
  io::write_text_atomically(out + ".report.json", report_json(options.job, summary).dump(2) + "\n");
  io::write_text_atomically(out + ".report.html", report_html(options.job, summary));
}

}  // namespace

void print_plan(const std::string& plan, const std::vector<std::string>& warnings, std::FILE* stream) {
  std::fputs(plan.c_str(), stream);
  for (const std::string& warning : warnings) std::fprintf(stream, "warning: %s\n", warning.c_str());
}

void say_resumed(const BatchOptions& options, const std::string& resumed) {
  if (!options.quiet && !resumed.empty()) std::fprintf(stderr, "resuming: %s\n", resumed.c_str());
}

void say_stopped(const BatchOptions& options) {
  if (!options.quiet)
    std::fputs("mpishards: stopped cleanly; run the same command again to resume\n", stderr);
}

std::optional<BatchOptions> read_batch_options(const BatchCommand& command, const Arguments& arguments,
                                               const comm::Communicator& world) {
  refuse_copies(world);
  const std::string text = decide_on_root(world, [&] { return gather_settings(command, arguments, world); });
  if (text.empty()) return std::nullopt;
  const Settings settings = deserialize_settings(text);
  BatchOptions options =
      to_batch_options(command.kind, settings, shell_line(to_string(command.kind), arguments));
  if (options.verbose && world.is_root())
    std::fputs(to_toml(settings, true, options_of(command.kind)).c_str(), stderr);
  return options;
}

int run_batch_command(const BatchCommand& command, const Arguments& arguments,
                      const comm::Communicator& world) {
  const std::optional<BatchOptions> read = read_batch_options(command, arguments, world);
  if (!read) return 0;
  const BatchOptions& options = *read;
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

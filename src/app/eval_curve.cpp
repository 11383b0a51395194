#include "app/eval_curve.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "app/claim_output.hpp"
#include "app/cli.hpp"
#include "app/curve_document.hpp"
#include "app/curve_judge.hpp"
#include "app/curve_options.hpp"
#include "app/curve_page.hpp"
#include "app/curve_plot.hpp"
#include "app/job_start.hpp"
#include "app/png_image.hpp"
#include "app/report.hpp"
#include "app/result_attributes.hpp"
#include "app/shell_line.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/version.hpp"
#include "io/file.hpp"
#include "io/index_directory.hpp"
#include "rank/host_info.hpp"
#include "rank/recall_curve.hpp"

namespace mpishards::app {

namespace {

/// Everything that is said about the sweep, as one text; empty if --help was asked for.
std::string gather_settings(Arguments arguments, const comm::Communicator& world) {
  std::erase(arguments, "--curve");
  Cli cli(
      "eval --curve", "--base INDEX --queries FILE[:DATASET] [options]",
      "Searches all queries in an index with more and more of its lists, on all ranks of an MPI job: what\n"
      "share of the true neighbors is found, at how many queries a second. Options are also keys of the\n"
      "--job file (TOML) and environment variables, as for mpishards search.",
      "mpirun -n 2 mpishards eval --curve --base emb.index --queries emb.h5:/test -k 100 -o curve.html");
  declare_options(cli, curve_options());
  const std::optional<SettingSources> said = read_settings(cli, arguments, world, curve_options());
  if (!said) return "";
  Settings settings = combine(said->flags, said->environment, said->job_file, curve_options());
  expand_input_settings(settings);
  to_curve_options(settings, "");  // whatever is wrong with them is said once, not by every rank
  return serialize(settings);
}

/// Of all files of an index.
std::int64_t bytes_of_folder(const std::string& directory) {
  std::int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.is_regular_file()) bytes += narrow<std::int64_t>(entry.file_size());
  return bytes;
}

std::string index_name(const io::IndexManifest& index) {
  const std::string& codec = index.codes.codec;
  if (!index.faiss.factory.empty()) return index.type + ":" + index.faiss.factory;
  return index.type + std::to_string(index.nlist) + (codec.empty() ? "" : "," + codec);
}

bool is_png(const std::string& path) {
  return path.ends_with(".png");
}

/// What rank 0 makes of the sweep: the table as it grows, and at the end the documents.
class CurveReport {
 public:
  explicit CurveReport(const CurveOptions& options) : options_(options) {
    if (!options.truth.empty()) judge_ = CurveJudge(options.truth, options.task.job.k);
    for (const std::string& path : options.peers) peers_.push_back(read_curve_document(path));
    if (options.output.empty()) return;
    if (is_png(options.output)) require_png_renderer();
    io::require_output_place(options.output);
    lock_ = claim_output(claim());
    if (!options.overwrite) refuse_existing({options.output});
  }

  void loaded(const rank::CurveRun& run);
  void take_truth(TopK exact, double seconds);
  void add(const rank::CurvePoint& point, TopK answers);
  void finish();

 private:
  bool says_table() const { return !options_.json && !options_.quiet; }
  OutputClaim claim() const;
  void require_same_question() const;
  void print_heading(const rank::CurveRun& run) const;
  void print_point(const MeasuredPoint& point, const rank::CurvePoint& measured);
  std::string plot() const;

  const CurveOptions& options_;
  io::OutputLock lock_;
  CurveJudge judge_;
  std::vector<CurveDocument> peers_;
  CurveDocument document_;
  bool has_table_head_ = false;
};

OutputClaim CurveReport::claim() const {
  OutputClaim claim{options_.output, {options_.output}, options_.peers};
  if (!options_.truth.empty()) claim.input_paths.push_back(options_.truth);
  for (const auto* specs : {&options_.task.job.base, &options_.task.job.queries})
    for (const io::InputSpec& spec : *specs) claim.input_paths.push_back(spec.path);
  return claim;
}

void CurveReport::loaded(const rank::CurveRun& run) {
  const rank::SearchJobConfig& job = options_.task.job;
  document_.question = {std::string(to_string(job.metric)), run.shape.rows, run.shape.d, run.shape.nq,
                        run.shape.k};
  document_.base = options_.index_directory;
  for (const io::InputSpec& spec : job.queries)
    document_.queries += (document_.queries.empty() ? "" : " ") + io::to_string(spec);
  document_.truth = options_.truth;
  judge_.require_queries(run.shape.nq);
  require_same_question();
  document_.curves.push_back(
      {.name = "mpishards " + index_name(options_.index),
       .version = std::string(version()),
       .machine = rank::cpu_model() + ", " + std::to_string(run.hosts.size()) + " host(s)",
       .ranks = run.shape.n_ranks,
       .threads = run.shape.threads,
       .build_seconds = attribute<double>(options_.index.facts, "build_seconds"),
       .bytes_per_vector = static_cast<double>(bytes_of_folder(options_.index_directory)) /
                           static_cast<double>(run.shape.rows),
       .points = {}});
  for (const std::string& warning : run.warnings)
    if (!options_.quiet) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  if (says_table()) print_heading(run);
}

/// Speeds of different work do not belong in one plot.
void CurveReport::require_same_question() const {
  for (std::size_t p = 0; p < peers_.size(); ++p)
    if (peers_[p].question != document_.question)
      throw Error(ErrorKind::data, options_.peers[p] + " is about " + to_string(peers_[p].question) +
                                       ", this sweep about " + to_string(document_.question) +
                                       "; measure the same question, or leave it out");
}

void CurveReport::print_heading(const rank::CurveRun& run) const {
  const SystemCurve& own = document_.curves.front();
  std::printf("index     %s: %s of %s\n", options_.index_directory.c_str(),
              index_name(options_.index).c_str(), to_string(document_.question).c_str());
  std::printf("built     in %s s, %s bytes a vector on disk\n",
              optional_text(own.build_seconds, "%.2f").c_str(),
              optional_text(own.bytes_per_vector, "%.1f").c_str());
  std::printf("machine   %s; %d rank(s) of %d thread(s), %s, merge %s\n", own.machine.c_str(),
              run.shape.n_ranks, run.shape.threads, run.engine.c_str(), run.merge.c_str());
  std::fflush(stdout);
}

void CurveReport::take_truth(TopK exact, double seconds) {
  judge_.take(std::move(exact), document_.question.d);
  const bool names_candidates = !options_.index.codes.codec.empty() || !options_.index.faiss.factory.empty();
  document_.truth = names_candidates ? "searched among all rows" : "searched in all lists";
  if (says_table())
    std::printf("truth     %s, %s\n", document_.truth.c_str(), format_seconds(seconds).c_str());
}

void CurveReport::add(const rank::CurvePoint& measured, TopK answers) {
  const std::string name = swept_parameter(options_.index) + " " + std::to_string(measured.nprobe);
  MeasuredPoint point{name,
                      judge_.recall(std::move(answers), document_.question.d, "the search with " + name),
                      static_cast<double>(document_.question.nq) / measured.seconds,
                      measured.rows_share > 0 ? std::optional(measured.rows_share) : std::nullopt};
  document_.by_distance = judge_.is_by_distance();
  if (says_table()) print_point(point, measured);
  document_.curves.front().points.push_back(std::move(point));
}

void CurveReport::print_point(const MeasuredPoint& point, const rank::CurvePoint& measured) {
  if (!std::exchange(has_table_head_, true)) {
    std::printf("%9s %8s", swept_parameter(options_.index).c_str(), "rows");
    for (const auto& [at, share] : point.recall)
      std::printf(" %11s", ("recall@" + std::to_string(at)).c_str());
    std::printf(" %11s %11s\n", "queries/s", "ms");
  }
  std::printf("%9lld %8s", static_cast<long long>(measured.nprobe),
              measured.rows_share > 0 ? format_percent(measured.rows_share).c_str() : "-");
  for (const auto& [at, share] : point.recall) std::printf(" %11.6f", share);
  std::printf(" %11.1f %11.2f\n", point.queries_per_second, measured.seconds * 1e3);
  std::fflush(stdout);
}

std::string CurveReport::plot() const {
  if (options_.output.ends_with(".html")) return curve_html(document_, options_.command_line);
  const std::string svg = curve_svg(document_, PlotGround::own);
  return is_png(options_.output) ? png_of(svg) : svg;
}

void CurveReport::finish() {
  for (const CurveDocument& peer : peers_)
    document_.curves.insert(document_.curves.end(), peer.curves.begin(), peer.curves.end());
  if (options_.json) std::printf("%s\n", to_json(document_).dump(2).c_str());
  std::fflush(stdout);  // what was measured is said whatever becomes of the plot
  if (!options_.output.empty()) io::write_text_atomically(options_.output, plot());
  if (says_table() && !document_.by_distance)
    std::printf("recall counts the same ids alone: %s has no distances to compare\n", options_.truth.c_str());
  if (says_table() && !options_.output.empty()) std::printf("plot      %s\n", options_.output.c_str());
}

}  // namespace

bool wants_curve(const Arguments& arguments) {
  return std::ranges::find(arguments, "--curve") != arguments.end();
}

int run_eval_curve(const Arguments& arguments, const comm::Communicator& world) {
  refuse_copies(world);
  const std::string text = decide_on_root(world, [&] { return gather_settings(arguments, world); });
  if (text.empty()) return 0;
  const CurveOptions options = to_curve_options(deserialize_settings(text), shell_line("eval", arguments));
  std::optional<CurveReport> report;  // of rank 0
  decide_on_root(world, [&]() -> std::string {
    report.emplace(options);
    return "";
  });
  rank::CurveObserver observer;
  observer.loaded = [&](const rank::CurveRun& run) { report->loaded(run); };
  observer.truth = [&](TopK exact, double seconds) { report->take_truth(std::move(exact), seconds); };
  observer.point = [&](const rank::CurvePoint& point, TopK answers) {
    report->add(point, std::move(answers));
  };
  rank::run_recall_curve(options.task, world, observer);
  decide_on_root(world, [&]() -> std::string {
    report->finish();
    return "";
  });
  return 0;
}

}  // namespace mpishards::app

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/eval_curve.hpp"
#include "app/eval_oracle.hpp"
#include "app/eval_truth.hpp"
#include "app/options.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"

namespace mpishards::app {

namespace {

using nlohmann::json;

json to_json(const TruthReport& report) {
  const Comparison& comparison = report.comparison;
  json rows = json::array();
  for (const AtCount& at : comparison.at) {
    json row = {{"at", at.at}, {"recall_by_id", at.by_id.recall()}};
    if (report.recognised.convention) row["recall"] = at.by_distance.recall();
    if (report.recognised.convention && report.metric != Metric::ip) row["distance_ratio"] = at.ratio.mean();
    rows.push_back(row);
  }
  json out = {{"schema", "mpishards.eval/1"},
              {"result", report.result_path},
              {"truth", report.truth_path},
              {"metric", to_string(report.metric)},
              {"queries_compared", report.nq},
              {"result_k", report.result_k},
              {"truth_k", report.truth_k},
              {"truth_distances", report.recognised.convention ? report.recognised.convention->name : "none"},
              {"recognised", report.recognised.reason},
              {"relative_tolerance", report.tolerance.relative},
              {"absolute_tolerance", report.tolerance.absolute},
              {"at", rows},
              {"identical_queries", comparison.identical},
              {"tied_queries", comparison.tied},
              {"different_queries", comparison.different}};
  if (comparison.first.query >= 0)
    out["first_difference"] = {{"query", comparison.first.query},
                               {"place", comparison.first.place},
                               {"result", comparison.first.result_text},
                               {"truth", comparison.first.truth_text}};
  return out;
}

void print(const TruthReport& report) {
  const bool by_distance = report.recognised.convention.has_value();
  std::printf("result     %s, metric %s\n", report.result_path.c_str(),
              std::string(to_string(report.metric)).c_str());
  std::printf("truth      %s; distances: %s (recognised: %s)\n", report.truth_path.c_str(),
              by_distance ? report.recognised.convention->name : "none", report.recognised.reason.c_str());
  std::printf("compared   %lld queries", static_cast<long long>(report.nq));
  if (report.truth_k < report.result_k)
    std::printf(", %lld of %lld neighbors each, for the truth has no more",
                static_cast<long long>(report.truth_k), static_cast<long long>(report.result_k));
  if (by_distance)
    std::printf("; distances count as equal within %g relative + %g absolute, being float32",
                report.tolerance.relative, report.tolerance.absolute);
  std::printf("\n");
  for (const AtCount& at : report.comparison.at) {
    std::printf("recall@%-4lld", static_cast<long long>(at.at));
    if (by_distance) std::printf(" %.6f (equal distance counts as found) ", at.by_distance.recall());
    std::printf(" %.6f (same id)", at.by_id.recall());
    // A ratio of inner products says nothing: they have no zero to measure from.
    if (by_distance && report.metric != Metric::ip)
      std::printf("  mean distance ratio %.9f", at.ratio.mean());
    std::printf("\n");
  }
  const Comparison& comparison = report.comparison;
  std::printf("queries    %lld identical, %lld differ only among equal distances, %lld differ\n",
              static_cast<long long>(comparison.identical), static_cast<long long>(comparison.tied),
              static_cast<long long>(comparison.different));
  if (comparison.first.query < 0) return;
  std::printf("first      query %lld at place %zu%s (id: distance)\n  result   %s\n  truth    %s\n",
              static_cast<long long>(comparison.first.query), comparison.first.place,
              comparison.different == 0 ? ", a tie" : "", comparison.first.result_text.c_str(),
              comparison.first.truth_text.c_str());
}

/// A number of an option's text. @throws Error{usage} naming the option
std::int64_t number_of(const std::string& option, const std::string& text, std::int64_t smallest) {
  try {
    if (const std::int64_t number = parse_count(text); number >= smallest) return number;
  } catch (const Error& error) {
    throw Error(ErrorKind::usage, "--" + option + ": " + error.what());
  }
  throw Error(ErrorKind::usage, "--" + option + ": " + text + " is below " + std::to_string(smallest));
}

std::vector<std::int64_t> parse_at(const std::string& text) {
  std::vector<std::int64_t> at;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) at.push_back(number_of("at", part, 1));
  return at;
}

double parse_tolerance(const std::string& text) {
  double tolerance = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, code] = std::from_chars(text.data(), end, tolerance);
  if (code != std::errc() || stopped != end || !(tolerance >= 0 && tolerance < 1))
    throw Error(
        ErrorKind::usage,
        "--tolerance: '" + text + "' is no relative difference; expected 0 or a small number such as 1e-6");
  return tolerance;
}

int eval_against_truth(const cxxopts::ParseResult& options, const std::string& result_path,
                       const std::string& truth_path) {
  const TruthReport report =
      compare_with_truth({result_path, truth_path, parse_tolerance(options["tolerance"].as<std::string>()),
                          parse_at(options["at"].as<std::string>()), options.count("at") == 0});
  const bool judged = options.count("expect") > 0;
  const std::string why_not = objection(report);
  const bool trusted = why_not.empty();
  if (options.count("json") > 0) {
    json out = to_json(report);
    if (judged) out["trusted"] = trusted;
    std::printf("%s\n", out.dump().c_str());
  } else {
    print(report);
    if (judged && trusted) std::printf("RESULT OK\n");
    if (judged && !trusted) std::printf("RESULT NOT TRUSTED: %s\n", why_not.c_str());
  }
  return judged && !trusted ? exit_code(ErrorKind::data) : 0;
}

int threads_of(const cxxopts::ParseResult& options) {
  const int wanted = narrow<int>(number_of("threads", options["threads"].as<std::string>(), 0));
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

double recall_of(const OracleVerdict& verdict) {
  return static_cast<double>(verdict.met_neighbors) / static_cast<double>(verdict.true_neighbors);
}

void print_verdict(const cxxopts::ParseResult& options, const OracleRequest& request,
                   const OracleReport& report) {
  const OracleVerdict& verdict = report.verdict;
  if (options.count("json") > 0) {
    json out = {{"schema", "mpishards.eval-oracle/1"},
                {"result", request.result_path},
                {"base_files", report.base},
                {"query_files", report.queries},
                {"queries", verdict.queries},
                {"of_queries", report.nq},
                {"seed", request.seed},
                {"wrong_queries", verdict.wrong_queries},
                {"rounding_distances", verdict.rounding_distances},
                {"rounding_places", verdict.rounding_places},
                {"first_wrong_query", verdict.first_wrong_row},
                {"first_wrong_reason", verdict.first_wrong_reason},
                {"trusted", verdict.exact()}};
    if (report.is_matrix) {
      out["entries"] = verdict.entries;
      out["missing_entries"] = verdict.missing_entries;
      out["surplus_entries"] = verdict.surplus_entries;
      out["wrong_distances"] = verdict.wrong_distances;
    }
    if (verdict.true_neighbors > 0) out["recall"] = recall_of(verdict);
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("inputs     base %s, queries %s\n", report.base.c_str(), report.queries.c_str());
  std::printf("oracle     %lld of %lld queries computed again in fp64 (seed %llu): %lld right, %lld wrong\n",
              static_cast<long long>(verdict.queries), static_cast<long long>(report.nq),
              static_cast<unsigned long long>(request.seed),
              static_cast<long long>(verdict.queries - verdict.wrong_queries),
              static_cast<long long>(verdict.wrong_queries));
  if (report.is_matrix)
    std::printf("entries    %lld compared: %lld missing, %lld surplus, %lld with a wrong distance\n",
                static_cast<long long>(verdict.entries), static_cast<long long>(verdict.missing_entries),
                static_cast<long long>(verdict.surplus_entries),
                static_cast<long long>(verdict.wrong_distances));
  if (verdict.true_neighbors > 0)
    std::printf(
        "recall     %.4f: %lld of %lld true neighbors met; the search looked into a part of the index\n",
        recall_of(verdict), static_cast<long long>(verdict.met_neighbors),
        static_cast<long long>(verdict.true_neighbors));
  std::printf(
      "rounding   %lld distances and %lld places differ only because a sum lies within 1e-12 of a boundary "
      "between two float32\n",
      static_cast<long long>(verdict.rounding_distances), static_cast<long long>(verdict.rounding_places));
  if (verdict.exact()) {
    std::printf("RESULT OK\n");
  } else {
    std::printf("RESULT NOT TRUSTED: query %lld: %s\n", static_cast<long long>(verdict.first_wrong_row),
                verdict.first_wrong_reason.c_str());
  }
}

/// The files of an option that may be absent.
std::vector<std::string> files_of_option(const cxxopts::ParseResult& options, const std::string& name) {
  if (options.count(name) == 0) return {};
  return options[name].as<std::vector<std::string>>();
}

int eval_against_oracle(const cxxopts::ParseResult& options, const std::string& result_path) {
  const std::string count = options["oracle"].as<std::string>();
  const OracleRequest request{
      .result_path = result_path,
      .base = files_of_option(options, "base"),
      .queries = files_of_option(options, "queries"),
      .count = count == "all" ? 0 : number_of("oracle", count, 0),
      .seed = narrow<std::uint64_t>(number_of("seed", options["seed"].as<std::string>(), 0)),
      .threads = threads_of(options)};
  const OracleReport report = judge_by_oracle(request);
  print_verdict(options, request, report);
  return report.verdict.exact() ? 0 : exit_code(ErrorKind::data);
}

Cli make_cli() {
  Cli cli(
      "eval", "(RESULT (TRUTH | --oracle N) | --curve ...) [options]",
      "Compares a result with ground truth, or computes some of its queries again in fp64. With --oracle or "
      "--expect the last line is RESULT OK or RESULT NOT TRUSTED: why, and the exit code 0 or 65. With "
      "--curve "
      "it sweeps an index; mpishards eval --curve --help has the options of that.",
      "mpishards eval result.h5 fashion-mnist-784-euclidean.hdf5 --at 1,10,100\n"
      "  mpishards eval result.h5 --oracle 1000");
  auto add = cli.add();
  add("result", "result file", cxxopts::value<std::string>());
  add("truth", "ground truth: ann-benchmarks HDF5, another result, .ivecs, .ibin, .npy",
      cxxopts::value<std::string>());
  add("at", "numbers of neighbors to report recall for; as many as both files have is always added",
      cxxopts::value<std::string>()->default_value("1,10,100"));
  add("oracle", "compute N random queries again (all: every one) from the inputs named in the result",
      cxxopts::value<std::string>());
  add("seed", "of the random choice", cxxopts::value<std::string>()->default_value("1"));
  add("expect", "exact: judge the result against TRUTH", cxxopts::value<std::string>());
  add("base", "base files, where they are no longer where they were searched",
      cxxopts::value<std::vector<std::string>>());
  add("queries", "query files, likewise", cxxopts::value<std::vector<std::string>>());
  add("threads", "for the oracle; 0: all cores", cxxopts::value<std::string>()->default_value("0"));
  add("tolerance", "relative difference up to which distances count as equal",
      cxxopts::value<std::string>()->default_value("1e-6"));
  add("curve", "instead: recall against queries/s of an index, see --curve --help");
  add("json", "machine-readable output");
  cli.positional({"result", "truth"});
  return cli;
}

}  // namespace

int run_eval(const Arguments& arguments, const comm::Communicator& world) {
  if (wants_curve(arguments)) return run_eval_curve(arguments, world);
  Cli cli = make_cli();
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  if (options->count("curve") > 0) throw Error(ErrorKind::usage, "--curve takes no value; leave it out");
  if (options->count("result") == 0)
    throw Error(ErrorKind::usage, "eval needs a RESULT; mpishards eval --help shows how");
  const std::string result = (*options)["result"].as<std::string>();
  const bool has_truth = options->count("truth") > 0;
  if (has_truth == (options->count("oracle") > 0))
    throw Error(ErrorKind::usage, "eval needs either a TRUTH file or --oracle N");
  if (options->count("expect") > 0 && (*options)["expect"].as<std::string>() != "exact")
    throw Error(ErrorKind::usage, "--expect " + (*options)["expect"].as<std::string>() + ": expected exact");
  if (has_truth) return eval_against_truth(*options, result, (*options)["truth"].as<std::string>());
  return eval_against_oracle(*options, result);
}

}  // namespace mpishards::app

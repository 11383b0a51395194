#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/oracle.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/recall.hpp"
#include "io/input_spec.hpp"
#include "io/results_writer.hpp"

namespace mpishards::app {

namespace {

using nlohmann::json;

// --- attributes
// -------------------------------------------------------------------------------------------------------

template <class T>
std::optional<T> attribute(const io::ResultReader& file, const std::string& name) {
  const auto found = file.attributes().find(name);
  if (found == file.attributes().end() || !std::holds_alternative<T>(found->second)) return std::nullopt;
  return std::get<T>(found->second);
}

template <class T>
T required_attribute(const io::ResultReader& file, const std::string& path, const std::string& name) {
  if (std::optional<T> value = attribute<T>(file, name)) return *value;
  throw Error(ErrorKind::data, path + " has no attribute '" + name +
                                   "'; expected a result that mpishards search has finished");
}

// --- distances in one convention
// --------------------------------------------------------------------------------------

/// How a file writes distances, besides the way this program does.
struct Convention {
  const char* name;
  double (*to_comparable)(double written);  // the distance in which smaller is better and files are compared
};

/// l2 is compared as the Euclidean distance, cosine as 1 - similarity, ip as the negated product.
double root_of(double squared) {
  return std::sqrt(std::max(squared, 0.0));
}
double one_minus(double similarity) {
  return 1.0 - similarity;
}
double negated(double product) {
  return -product;
}
double as_written(double distance) {
  return distance;
}

constexpr Convention kSquared = {"squared Euclidean", root_of};
constexpr Convention kEuclidean = {"Euclidean (square root of l2)", as_written};
constexpr Convention kSimilarity = {"cosine similarity", one_minus};
constexpr Convention kAngular = {"angular (1 - cosine)", as_written};
constexpr Convention kProduct = {"inner product", negated};
constexpr Convention kNegatedProduct = {"negated inner product", as_written};

/// Ours first.
std::vector<Convention> conventions_of(Metric metric) {
  switch (metric) {
    case Metric::l2:
      return {kSquared, kEuclidean};
    case Metric::cosine:
      return {kSimilarity, kAngular};
    case Metric::ip:
      break;
  }
  return {kProduct, kNegatedProduct};
}

struct Recognised {
  std::optional<Convention> convention;  // empty: distances can't be used
  std::string reason;
};

/// By the attribute `distance` that this program and ann-benchmarks write.
std::optional<Recognised> recognise_by_attribute(const io::ResultReader& truth, const std::string& path,
                                                 Metric metric) {
  const std::optional<std::string> distance = attribute<std::string>(truth, "distance");
  if (!distance) return std::nullopt;
  struct Row {
    const char* name;
    Metric metric;
    Convention convention;
  };
  constexpr Row kRows[] = {{"euclidean_squared", Metric::l2, kSquared},
                           {"euclidean", Metric::l2, kEuclidean},
                           {"cosine_similarity", Metric::cosine, kSimilarity},
                           {"angular", Metric::cosine, kAngular},
                           {"inner_product", Metric::ip, kProduct}};
  for (const Row& row : kRows) {
    if (*distance != row.name) continue;
    if (row.metric != metric)
      throw Error(ErrorKind::data, path + " is the truth for metric " + std::string(to_string(row.metric)) +
                                       " (attribute distance = " + *distance + "), the result has metric " +
                                       std::string(to_string(metric)));
    return Recognised{row.convention, "by its attribute distance = " + *distance};
  }
  return std::nullopt;
}

bool equal_within(double a, double b, DistanceTolerance tolerance) {
  return a == b || std::abs(a - b) <= tolerance.slack(b);
}

/// The rows of both files that answer the same queries.
struct Pairing {
  const io::ResultReader& result;
  const io::ResultReader& truth;
  std::int64_t truth_begin = 0;  // row of the truth that fits the result's row 0
  std::int64_t nq = 0;
};

/// By values: the convention in which most distances of the same ids agree.
Recognised recognise_by_values(const Pairing& pairing, Metric metric, DistanceTolerance tolerance) {
  const std::int64_t nq = std::min<std::int64_t>(pairing.nq, 1000);
  const TopK result = pairing.result.read(0, nq);
  const TopK truth = pairing.truth.read(pairing.truth_begin, pairing.truth_begin + nq);
  const std::vector<Convention> known = conventions_of(metric);
  std::vector<std::int64_t> agreeing(known.size(), 0);
  std::int64_t same_ids = 0;
  for (std::int64_t q = 0; q < nq; ++q) {
    const ConstNeighborRow found = result.row(q);
    const ConstNeighborRow wanted = truth.row(q);
    for (std::size_t i = 0; i < std::min(found.neighbors.size(), wanted.neighbors.size()); ++i) {
      if (found.neighbors[i] != wanted.neighbors[i] || found.neighbors[i] == kNoNeighbor) continue;
      ++same_ids;
      const double ours = known[0].to_comparable(found.distances[i]);
      for (std::size_t c = 0; c < known.size(); ++c)
        if (equal_within(ours, known[c].to_comparable(wanted.distances[i]), tolerance)) ++agreeing[c];
    }
  }
  const auto best = static_cast<std::size_t>(std::ranges::max_element(agreeing) - agreeing.begin());
  if (agreeing[best] == 0)
    return {std::nullopt, "its distances fit no known convention, so ids alone are compared"};
  return {known[best], "by its values: " + std::to_string(agreeing[best]) + " of " +
                           std::to_string(same_ids) + " distances of the same neighbor agree"};
}

Recognised recognise(const Pairing& pairing, const std::string& truth_path, Metric metric,
                     DistanceTolerance tolerance) {
  if (!pairing.truth.has_distances()) return {std::nullopt, "it has no distances, so ids alone are compared"};
  if (std::optional<Recognised> recognised = recognise_by_attribute(pairing.truth, truth_path, metric))
    return *recognised;
  return recognise_by_values(pairing, metric, tolerance);
}

// --- result against truth
// ---------------------------------------------------------------------------------------------

struct AtCount {
  std::int64_t at = 0;
  RecallCount by_distance;
  RecallCount by_id;
  RatioSum ratio;
};

/// Where two rows differ first, and a few entries around.
struct Difference {
  std::int64_t query = -1;  // row of the result
  std::size_t place = 0;
  std::string result_text;
  std::string truth_text;
};

struct Comparison {
  std::vector<AtCount> at;
  std::int64_t identical = 0;
  std::int64_t tied = 0;  // other ids, but the same distances place by place
  std::int64_t different = 0;
  Difference first;  // the first that is no tie, else the first tie
};

/// A block of rows in the common convention.
struct ComparableRows {
  TopK rows;
  std::vector<double> distances;

  ComparableRows(TopK read, const std::optional<Convention>& convention) : rows(std::move(read)) {
    for (std::int64_t i = 0; i < rows.nq() * rows.k(); ++i)
      distances.push_back(convention ? convention->to_comparable(rows.distances()[i]) : 0.0);
  }
  ComparableRow row(std::int64_t q) const {
    const auto k = narrow<std::size_t>(rows.k());
    return {rows.row(q).neighbors, std::span(distances).subspan(narrow<std::size_t>(q) * k, k)};
  }
};

std::string entries_around(ComparableRow row, std::size_t place) {
  std::ostringstream text;
  text.precision(9);
  const std::size_t begin = place < 2 ? 0 : place - 2;
  for (std::size_t i = begin; i < std::min(row.neighbors.size(), place + 3); ++i)
    text << (i == begin ? "" : "  ") << (i == place ? ">" : "") << row.neighbors[i] << ": "
         << row.distances[i];
  return text.str();
}

enum class RowKind { identical, tied, different };

/// First place from `begin` on whose id cannot have the distance that the result claims: the truth knows it
/// otherwise, or leaves it out although it would be closer than the last true neighbor. `places` where there
/// is none.
std::size_t first_contradiction(ComparableRow result, ComparableRow truth, DistanceTolerance tolerance,
                                std::size_t begin, std::size_t places) {
  std::unordered_map<GlobalId, double> true_distances;
  for (std::size_t i = 0; i < truth.neighbors.size(); ++i)
    true_distances.emplace(truth.neighbors[i], truth.distances[i]);
  const double last = truth.distances.back();
  for (std::size_t i = begin; i < places; ++i) {
    const auto known = true_distances.find(result.neighbors[i]);
    const bool possible =
        known != true_distances.end()
            ? equal_within(result.distances[i], known->second, tolerance)
            : equal_within(result.distances[i], last, tolerance) || result.distances[i] > last;
    if (!possible) return i;
  }
  return places;
}

RowKind kind_of(ComparableRow result, ComparableRow truth, bool has_distances, DistanceTolerance tolerance,
                std::size_t& place) {
  const std::size_t places = std::min(result.neighbors.size(), truth.neighbors.size());
  std::size_t other_id = 0;
  while (other_id < places && result.neighbors[other_id] == truth.neighbors[other_id]) ++other_id;
  place = other_id;
  if (!has_distances) return place == places ? RowKind::identical : RowKind::different;
  for (std::size_t i = 0; i < places; ++i) {
    if (equal_within(result.distances[i], truth.distances[i], tolerance)) continue;
    place = i;
    return RowKind::different;
  }
  if (place == places) return RowKind::identical;
  place = first_contradiction(result, truth, tolerance, other_id, places);
  if (place < places) return RowKind::different;
  place = other_id;
  return RowKind::tied;
}

class Comparer {
 public:
  Comparer(const Pairing& pairing, Metric metric, std::optional<Convention> truth_convention,
           DistanceTolerance tolerance, const std::vector<std::int64_t>& at)
      : pairing_(pairing),
        ours_(conventions_of(metric).front()),
        theirs_(std::move(truth_convention)),
        tolerance_(tolerance) {
    for (const std::int64_t count : at) comparison_.at.push_back({count, {}, {}, {}});
  }

  Comparison compare() {
    constexpr std::int64_t kEntriesAtOnce = 1 << 20;
    const std::int64_t step =
        std::max<std::int64_t>(1, kEntriesAtOnce / std::max(pairing_.result.k(), pairing_.truth.k()));
    for (std::int64_t begin = 0; begin < pairing_.nq; begin += step) {
      const std::int64_t end = std::min(begin + step, pairing_.nq);
      const ComparableRows result(pairing_.result.read(begin, end), ours_);
      const ComparableRows truth(
          pairing_.truth.read(pairing_.truth_begin + begin, pairing_.truth_begin + end), theirs_);
      for (std::int64_t q = 0; q < end - begin; ++q) compare_row(begin + q, result.row(q), truth.row(q));
    }
    return comparison_;
  }

 private:
  void compare_row(std::int64_t query, ComparableRow result, ComparableRow truth) {
    for (AtCount& at : comparison_.at) {
      at.by_id += recall_by_id(result.neighbors, truth.neighbors, at.at);
      if (!theirs_) continue;
      at.by_distance += recall_by_distance(result, truth, at.at, tolerance_);
      at.ratio += distance_ratio(result, truth, at.at);
    }
    std::size_t place = 0;
    const RowKind kind = kind_of(result, truth, theirs_.has_value(), tolerance_, place);
    if (kind == RowKind::identical) {
      ++comparison_.identical;
      return;
    }
    const bool is_first = kind == RowKind::different ? comparison_.different == 0
                                                     : comparison_.different + comparison_.tied == 0;
    ++(kind == RowKind::different ? comparison_.different : comparison_.tied);
    if (is_first)
      comparison_.first = {query, place, entries_around(result, place), entries_around(truth, place)};
  }

  Pairing pairing_;
  Convention ours_;
  std::optional<Convention> theirs_;
  DistanceTolerance tolerance_;
  Comparison comparison_;
};

struct TruthReport {
  std::string result_path;
  std::string truth_path;
  Metric metric = Metric::l2;
  std::int64_t nq = 0;
  std::int64_t result_nq = 0;
  Recognised recognised;
  DistanceTolerance tolerance;
  Comparison comparison;
};

/// Why the result is not exactly the truth, or empty.
std::string objection(const TruthReport& report) {
  const bool by_distance = report.recognised.convention.has_value();
  const bool all_found = std::ranges::all_of(report.comparison.at, [&](const AtCount& at) {
    const RecallCount& count = by_distance ? at.by_distance : at.by_id;
    return count.found == count.wanted;
  });
  if (!all_found) return "recall is below 1";
  if (by_distance && report.comparison.different > 0)
    return std::to_string(report.comparison.different) + " queries differ from the truth";
  return {};
}

json to_json(const TruthReport& report) {
  const Comparison& comparison = report.comparison;
  json rows = json::array();
  for (const AtCount& at : comparison.at) {
    json row = {{"at", at.at}, {"recall_by_id", at.by_id.recall()}};
    if (report.recognised.convention) row["recall"] = at.by_distance.recall();
    if (report.recognised.convention && report.metric != Metric::ip) row["distance_ratio"] = at.ratio.mean();
    rows.push_back(row);
  }
  json out = {{"result", report.result_path},
              {"truth", report.truth_path},
              {"metric", to_string(report.metric)},
              {"queries_compared", report.nq},
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
  std::printf("compared   %lld of %lld queries", static_cast<long long>(report.nq),
              static_cast<long long>(report.result_nq));
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

std::vector<std::int64_t> parse_at(const std::string& text, std::int64_t k) {
  std::vector<std::int64_t> at;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::size_t used = 0;
    std::int64_t value = 0;
    try {
      value = std::stoll(part, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used == 0 || used != part.size() || value < 1)
      throw Error(ErrorKind::usage, "--at " + text + ": '" + part + "' is no positive number");
    if (value <= k) at.push_back(value);
  }
  if (at.empty() || at.back() != k) at.push_back(k);
  std::ranges::sort(at);
  at.erase(std::ranges::unique(at).begin(), at.end());
  return at;
}

Pairing pair_up(const io::ResultReader& result, const io::ResultReader& truth,
                const std::string& truth_path) {
  Pairing pairing{result, truth, attribute<std::int64_t>(result, "query_begin").value_or(0), 0};
  // A truth that is itself a result of a range of queries begins where that range does.
  const std::int64_t truth_first = attribute<std::int64_t>(truth, "query_begin").value_or(0);
  pairing.truth_begin -= truth_first;
  if (pairing.truth_begin >= 0) pairing.nq = std::min(result.nq(), truth.nq() - pairing.truth_begin);
  if (pairing.nq <= 0)
    throw Error(ErrorKind::data, truth_path + " answers queries from " + std::to_string(truth_first) +
                                     " to " + std::to_string(truth_first + truth.nq()) +
                                     ", none of those of the result; give the truth of the same queries");
  return pairing;
}

int eval_against_truth(const cxxopts::ParseResult& options, const std::string& result_path,
                       const std::string& truth_path) {
  const auto result = io::open_result(result_path);
  const auto truth = io::open_result(truth_path);
  TruthReport report;
  report.result_path = result_path;
  report.truth_path = truth_path;
  report.metric = metric_from_string(required_attribute<std::string>(*result, result_path, "metric"));
  const Pairing pairing = pair_up(*result, *truth, truth_path);
  report.nq = pairing.nq;
  report.result_nq = result->nq();
  report.tolerance.relative = options["tolerance"].as<double>();
  // 1 - s loses what s has in common with 1: there the error of float32 is absolute.
  if (report.metric == Metric::cosine) report.tolerance.absolute = report.tolerance.relative;
  report.recognised = recognise(pairing, truth_path, report.metric, report.tolerance);
  const std::vector<std::int64_t> at =
      parse_at(options["at"].as<std::string>(), std::min(result->k(), truth->k()));
  report.comparison =
      Comparer(pairing, report.metric, report.recognised.convention, report.tolerance, at).compare();

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

// --- result against the oracle
// ----------------------------------------------------------------------------------------

std::vector<io::InputSpec> specs_of_lines(const std::string& lines) {
  std::vector<io::InputSpec> specs;
  std::istringstream parts(lines);
  for (std::string line; std::getline(parts, line);)
    if (!line.empty()) specs.push_back(io::parse_input_spec(line));
  return specs;
}

/// What the result's attributes say about one of its inputs, "base" or "queries".
struct NamedInput {
  std::string name;
  std::string default_dataset;
};

std::vector<io::InputSpec> specs_of_input(const cxxopts::ParseResult& options, const io::ResultReader& result,
                                          const std::string& result_path, const NamedInput& input) {
  if (options.count(input.name) > 0)
    return io::expand_inputs(options[input.name].as<std::vector<std::string>>(), input.default_dataset);
  const std::vector<io::InputSpec> specs =
      specs_of_lines(required_attribute<std::string>(result, result_path, input.name));
  for (const io::InputSpec& spec : specs)
    if (!io::exists(spec.path))
      throw Error(ErrorKind::input_missing, spec.path + ", which " + result_path +
                                                " was computed from, is not here; " +
                                                "name its new place with --" + input.name);
  return specs;
}

/// Compares the files with those that were searched. Another time stamp is a warning, other contents an
/// error.
void check_identity(const io::ResultReader& result, const NamedInput& input,
                    const std::vector<io::InputSpec>& specs) {
  const std::optional<std::string> text = attribute<std::string>(result, input.name + "_identity");
  if (!text) {
    std::fprintf(
        stderr, "mpishards: warning: the result does not say what its %s looked like; it is taken as it is\n",
        input.name.c_str());
    return;
  }
  const json identities = json::parse(*text, nullptr, false);
  if (!identities.is_array() || identities.size() != specs.size())
    throw Error(ErrorKind::data, "the result was computed from " + std::to_string(identities.size()) +
                                     " files of " + input.name + ", here are " +
                                     std::to_string(specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const io::InputIdentity now = io::identify(specs[i].path);
    const json& then = identities[i];
    if (then.value("size_bytes", std::int64_t{0}) != now.size_bytes ||
        then.value("checksum", std::uint64_t{0}) != now.checksum)
      throw Error(ErrorKind::data, now.path + " has changed since the search (it had " +
                                       std::to_string(then.value("size_bytes", std::int64_t{0})) +
                                       " bytes, has " + std::to_string(now.size_bytes) +
                                       "); restore it, or search again");
    if (then.value("mtime_ns", std::int64_t{0}) != now.mtime_ns)
      std::fprintf(stderr, "mpishards: warning: %s has another time stamp than when it was searched\n",
                   now.path.c_str());
  }
}

std::unique_ptr<io::VectorSource> open_input(const cxxopts::ParseResult& options,
                                             const io::ResultReader& result, const std::string& result_path,
                                             const NamedInput& input) {
  const std::vector<io::InputSpec> specs = specs_of_input(options, result, result_path, input);
  check_identity(result, input, specs);
  return io::open_sources(specs);
}

std::int64_t parse_oracle_count(const std::string& text) {
  if (text == "all") return 0;
  std::size_t used = 0;
  std::int64_t count = -1;
  try {
    count = std::stoll(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || count < 0)
    throw Error(ErrorKind::usage, "--oracle " + text + ": expected a number of queries, or all");
  return count;
}

int threads_of(const cxxopts::ParseResult& options) {
  const int wanted = options["threads"].as<int>();
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// Checks that the result's rows and the queries' and base's fit what its attributes say.
void check_ranges(const OracleTask& task, const std::string& result_path) {
  if (task.query_begin < 0 || task.query_begin + task.result->nq() > task.queries->rows())
    throw Error(ErrorKind::data, result_path + " answers queries from " + std::to_string(task.query_begin) +
                                     " to " + std::to_string(task.query_begin + task.result->nq()) +
                                     ", but " + task.queries->name() + " has " +
                                     std::to_string(task.queries->rows()));
  if (task.base_begin < 0 || task.base_begin > task.base_end || task.base_end > task.base->rows())
    throw Error(ErrorKind::data, result_path + " covers base rows from " + std::to_string(task.base_begin) +
                                     " to " + std::to_string(task.base_end) + ", but " + task.base->name() +
                                     " has " + std::to_string(task.base->rows()));
}

void print_verdict(const cxxopts::ParseResult& options, const std::string& result_path,
                   const OracleVerdict& verdict, std::int64_t nq) {
  if (options.count("json") > 0) {
    const json out = {{"result", result_path},
                      {"queries", verdict.queries},
                      {"of_queries", nq},
                      {"seed", options["seed"].as<std::uint64_t>()},
                      {"wrong_queries", verdict.wrong_queries},
                      {"rounding_distances", verdict.rounding_distances},
                      {"rounding_places", verdict.rounding_places},
                      {"first_wrong_query", verdict.first_wrong_row},
                      {"first_wrong_reason", verdict.first_wrong_reason},
                      {"trusted", verdict.exact()}};
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("oracle     %lld of %lld queries computed again in fp64 (seed %llu): %lld right, %lld wrong\n",
              static_cast<long long>(verdict.queries), static_cast<long long>(nq),
              static_cast<unsigned long long>(options["seed"].as<std::uint64_t>()),
              static_cast<long long>(verdict.queries - verdict.wrong_queries),
              static_cast<long long>(verdict.wrong_queries));
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

int eval_against_oracle(const cxxopts::ParseResult& options, const std::string& result_path) {
  const std::int64_t count = parse_oracle_count(options["oracle"].as<std::string>());
  const auto result = io::open_result(result_path);
  if (const auto covered = attribute<std::string>(*result, "base_covered"))
    throw Error(ErrorKind::data, result_path + " was merged without all parts: it covers base rows " +
                                     *covered + " only; merge it again when the others are there");
  const auto base = open_input(options, *result, result_path, {"base", "train"});
  const auto queries = open_input(options, *result, result_path, {"queries", "test"});
  OracleTask task;
  task.base = base.get();
  task.queries = queries.get();
  task.result = result.get();
  task.metric = metric_from_string(required_attribute<std::string>(*result, result_path, "metric"));
  task.query_begin = attribute<std::int64_t>(*result, "query_begin").value_or(0);
  task.base_begin = attribute<std::int64_t>(*result, "base_begin").value_or(0);
  task.base_end = attribute<std::int64_t>(*result, "base_end").value_or(base->rows());
  task.drop_nonfinite = attribute<std::string>(*result, "nonfinite").value_or("error") == "drop";
  task.threads = threads_of(options);
  check_ranges(task, result_path);
  const OracleVerdict verdict =
      consult_oracle(task, sample_rows(result->nq(), count, options["seed"].as<std::uint64_t>()));
  print_verdict(options, result_path, verdict, result->nq());
  return verdict.exact() ? 0 : exit_code(ErrorKind::data);
}

Cli make_cli() {
  Cli cli(
      "eval", "RESULT (TRUTH | --oracle N) [options]",
      "Compares a result with ground truth, or computes some of its queries again in fp64. With --oracle or "
      "--expect the last line is RESULT OK or RESULT NOT TRUSTED: why, and the exit code 0 or 65.",
      "mpishards eval result.h5 fashion-mnist-784-euclidean.hdf5 --at 1,10,100\n"
      "  mpishards eval result.h5 --oracle 1000");
  auto add = cli.add();
  add("result", "result file", cxxopts::value<std::string>());
  add("truth", "ground truth: ann-benchmarks HDF5, another result, .ivecs, .ibin, .npy",
      cxxopts::value<std::string>());
  add("at", "numbers of neighbors to report recall for; k is always added",
      cxxopts::value<std::string>()->default_value("1,10,100"));
  add("oracle", "compute N random queries again (all: every one) from the inputs named in the result",
      cxxopts::value<std::string>());
  add("seed", "of the random choice", cxxopts::value<std::uint64_t>()->default_value("1"));
  add("expect", "exact: judge the result against TRUTH", cxxopts::value<std::string>());
  add("base", "base files, where they are no longer where they were searched",
      cxxopts::value<std::vector<std::string>>());
  add("queries", "query files, likewise", cxxopts::value<std::vector<std::string>>());
  add("threads", "for the oracle; 0: all cores", cxxopts::value<int>()->default_value("0"));
  add("tolerance", "relative difference up to which distances count as equal",
      cxxopts::value<double>()->default_value("1e-6"));
  add("json", "machine-readable output");
  cli.positional({"result", "truth"});
  return cli;
}

}  // namespace

int run_eval(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli = make_cli();
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
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

#include "app/eval_truth.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <sstream>
#include <unordered_map>

#include "app/result_attributes.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"

namespace mpishards::app {

namespace {

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
        theirs_(truth_convention),
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

std::string range_text(std::int64_t begin, std::int64_t end) {
  return std::to_string(end - begin) + " queries (" + std::to_string(begin) + ":" + std::to_string(end) + ")";
}

Pairing pair_up(const io::ResultReader& result, const io::ResultReader& truth, const TruthTask& task) {
  const std::int64_t begin = attribute<std::int64_t>(result, "query_begin").value_or(0);
  // A truth that is itself a result of a range of queries begins where that range does.
  const std::int64_t truth_begin = attribute<std::int64_t>(truth, "query_begin").value_or(0);
  if (begin < truth_begin || begin + result.nq() > truth_begin + truth.nq())
    throw Error(ErrorKind::data, task.truth_path + " answers " +
                                     range_text(truth_begin, truth_begin + truth.nq()) + ", " +
                                     task.result_path + " " + range_text(begin, begin + result.nq()) +
                                     "; give the truth of the same queries, or search only those that have "
                                     "one, with --queries-range");
  return {result, truth, begin - truth_begin, result.nq()};
}

/// Our results and ann-benchmarks files say the dimension of their vectors.
void check_dimension(const io::ResultReader& result, const io::ResultReader& truth, const TruthTask& task) {
  const std::optional<std::int64_t> d = attribute<std::int64_t>(result, "d");
  std::optional<std::int64_t> truth_d = attribute<std::int64_t>(truth, "d");
  if (!truth_d) truth_d = attribute<std::int64_t>(truth, "dimension");
  if (d && truth_d && *d != *truth_d)
    throw Error(ErrorKind::data, task.truth_path +
                                     " is the truth of vectors with d = " + std::to_string(*truth_d) + ", " +
                                     task.result_path + " answers queries with d = " + std::to_string(*d) +
                                     "; give the truth of the same vectors");
}

Metric metric_of(const io::ResultReader& result, const io::ResultReader& truth, const TruthTask& task) {
  const bool swapped = !attribute<std::string>(result, "metric") && attribute<std::string>(truth, "metric");
  if (swapped)
    throw Error(ErrorKind::usage, task.result_path + " is no result of a search, but " + task.truth_path +
                                      " is; give the RESULT first, then the TRUTH");
  return metric_from_string(required_attribute<std::string>(result, task.result_path, "metric"));
}

/// The wanted counts that both files have, and all that they have.
std::vector<std::int64_t> counts_to_report(const TruthTask& task, const TruthReport& report) {
  const std::int64_t places = std::min(report.result_k, report.truth_k);
  std::vector<std::int64_t> at;
  for (const std::int64_t count : task.at) {
    if (count <= places) at.push_back(count);
    if (count > places && !task.skip_larger_at)
      throw Error(ErrorKind::usage,
                  "recall@" + std::to_string(count) + " can't be told: " + task.result_path + " has " +
                      std::to_string(report.result_k) + " neighbors a query, " + task.truth_path + " has " +
                      std::to_string(report.truth_k) + "; ask for at most " + std::to_string(places));
  }
  at.push_back(places);
  std::ranges::sort(at);
  at.erase(std::ranges::unique(at).begin(), at.end());
  return at;
}

}  // namespace

TruthReport compare_with_truth(const TruthTask& task) {
  return compare_with_truth(*io::open_result(task.result_path), *io::open_result(task.truth_path), task);
}

TruthReport compare_with_truth(const io::ResultReader& result, const io::ResultReader& truth,
                               const TruthTask& task) {
  TruthReport report;
  report.result_path = task.result_path;
  report.truth_path = task.truth_path;
  report.metric = metric_of(result, truth, task);
  check_dimension(result, truth, task);
  const Pairing pairing = pair_up(result, truth, task);
  report.nq = pairing.nq;
  report.result_k = result.k();
  report.truth_k = truth.k();
  report.tolerance.relative = task.relative_tolerance;
  // 1 - s loses what s has in common with 1: there the error of float32 is absolute.
  if (report.metric == Metric::cosine) report.tolerance.absolute = report.tolerance.relative;
  report.recognised = recognise(pairing, task.truth_path, report.metric, report.tolerance);
  report.comparison = Comparer(pairing, report.metric, report.recognised.convention, report.tolerance,
                               counts_to_report(task, report))
                          .compare();
  return report;
}

std::string objection(const TruthReport& report) {
  if (report.truth_k < report.result_k)
    return "the truth has " + std::to_string(report.truth_k) + " neighbors a query, the result " +
           std::to_string(report.result_k) + ": the rest can't be judged";
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

}  // namespace mpishards::app

#include "app/oracle_judgement.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <unordered_set>

namespace mpishards::app {

namespace {

/// The float32 values that rounding may give when the key is off by its doubt; at most one unit from the
/// middle.
struct RoundingRange {
  float low = 0;
  float high = 0;
};

RoundingRange rounding_range(const Candidate& candidate) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {std::max(static_cast<float>(candidate.key - candidate.doubt),
                   std::nextafter(candidate.rounded, -kInfinity)),
          std::min(static_cast<float>(candidate.key + candidate.doubt),
                   std::nextafter(candidate.rounded, kInfinity))};
}

std::string text_of(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}
std::string text_of(float value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}

class Judge {
 public:
  /// @pre the best of the answer are sorted
  Judge(const AnswerInQuestion& answer, Metric metric)
      : answer_(answer),
        metric_(metric),
        true_count_(std::min(answer.neighbors.size(), answer.best.size())),
        expected_count_(answer.may_lack ? given_count() : true_count_) {}

  /// What is wrong with the entries as they stand: padding, distances, order. Empty if nothing is.
  std::string wrong_entries() const {
    for (std::size_t i = 0; i < answer_.neighbors.size(); ++i) {
      const std::string wrong = i < expected_count_ ? wrong_neighbor(i) : wrong_padding(i);
      if (!wrong.empty())
        return "place " + std::to_string(i) + " has id " + std::to_string(answer_.neighbors[i]) + wrong;
    }
    return "";
  }

  /// A neighbor that the answer lacks although it comes before its last one however sums are rounded.
  std::string missing_neighbor() const {
    if (expected_count_ == 0) return "";
    const std::unordered_set<GlobalId> present(answer_.neighbors.begin(), answer_.neighbors.end());
    const std::size_t last = expected_count_ - 1;
    for (const Candidate& candidate : answer_.best) {
      if (present.contains(candidate.id)) continue;
      const float latest = rounding_range(candidate).high;
      if (latest < key(last) || (latest == key(last) && candidate.id < answer_.neighbors[last]))
        return "id " + std::to_string(candidate.id) + " with distance " + distance_text(candidate) +
               " is missing, the last of " + std::to_string(expected_count_) + " neighbors is id " +
               std::to_string(answer_.neighbors[last]) + " with " + text_of(answer_.distances[last]);
    }
    return "";
  }

  void count_roundings(OracleVerdict& verdict) const {
    for (std::size_t i = 0; i < expected_count_; ++i) {
      if (key(i) != answer_.claimed[i]->rounded) ++verdict.rounding_distances;
      if (!answer_.may_lack && answer_.neighbors[i] != answer_.best[i].id) ++verdict.rounding_places;
    }
  }

  /// Neighbors as near as the last true one are true ones, too.
  void count_met(OracleVerdict& verdict) const {
    if (true_count_ == 0) return;
    const float last = rounding_range(answer_.best[true_count_ - 1]).high;
    verdict.true_neighbors += static_cast<std::int64_t>(true_count_);
    for (std::size_t i = 0; i < std::min(expected_count_, true_count_); ++i)
      if (key(i) <= last) ++verdict.met_neighbors;
  }

 private:
  /// The distance as a key: negated where larger is better.
  float key(std::size_t place) const {
    return smaller_is_better(metric_) ? answer_.distances[place] : -answer_.distances[place];
  }
  std::string distance_text(const Candidate& candidate) const {
    return text_of(smaller_is_better(metric_) ? candidate.key : -candidate.key);
  }
  std::string expected_at(std::size_t place) const {
    return "; expected id " + std::to_string(answer_.best[place].id) + " there";
  }

  std::string wrong_padding(std::size_t place) const {
    const float distance = answer_.distances[place];
    if (answer_.neighbors[place] == kNoNeighbor && distance == worst_distance(metric_)) return "";
    return " and distance " + text_of(distance) + ", expected padding";
  }

  std::string wrong_neighbor(std::size_t place) const {
    const std::optional<Candidate>& claimed = answer_.claimed[place];
    if (!claimed) return ", which is no row of the base" + expected_at(place);
    const RoundingRange range = rounding_range(*claimed);
    if (!(key(place) >= range.low && key(place) <= range.high))
      return " with distance " + text_of(answer_.distances[place]) + ", in fp64 it is " +
             distance_text(*claimed);
    if (place == 0) return "";
    const GlobalId id_before = answer_.neighbors[place - 1];
    const float key_before = key(place - 1);
    if (key_before > key(place) || (key_before == key(place) && id_before >= answer_.neighbors[place]))
      return ", which does not come after id " + std::to_string(id_before) + " at the place before" +
             expected_at(place);
    return "";
  }

  std::size_t given_count() const {
    const auto end = std::ranges::find(answer_.neighbors, kNoNeighbor);
    return std::min(static_cast<std::size_t>(end - answer_.neighbors.begin()), answer_.best.size());
  }

  const AnswerInQuestion& answer_;
  Metric metric_;
  std::size_t true_count_;      // how many neighbors there are
  std::size_t expected_count_;  // how many neighbors the answer must have
};

}  // namespace

RowInQuestion::RowInQuestion(std::int64_t result_row, ConstNeighborRow entries, Metric metric, float eps)
    : result_row_(result_row), metric_(metric), limit_(smaller_is_better(metric) ? eps : -eps) {
  for (std::size_t i = 0; i < entries.neighbors.size(); ++i) {
    const float distance = entries.distances[i];
    const Entry entry{entries.neighbors[i], smaller_is_better(metric) ? distance : -distance};
    if (!entries_.empty()) {
      const Entry& before = entries_.back();
      if (entry.key < before.key || (entry.key == before.key && entry.id < before.id))
        object(entry_text(entry) + " does not come after " + entry_text(before) + " at the place before");
    }
    entries_.push_back(entry);
  }
  std::ranges::sort(
      entries_, [](const Entry& a, const Entry& b) { return a.id != b.id ? a.id < b.id : a.key < b.key; });
}

std::string RowInQuestion::text_of(float key) const {
  return app::text_of(smaller_is_better(metric_) ? key : -key);
}

std::string RowInQuestion::entry_text(const Entry& entry) const {
  return "id " + std::to_string(entry.id) + " with distance " + text_of(entry.key);
}

void RowInQuestion::object(const std::string& reason) {
  if (found_.wrong_queries++ > 0) return;
  found_.first_wrong_row = result_row_;
  found_.first_wrong_reason = reason;
}

/// Ids of the file's own may repeat: an entry is met once.
RowInQuestion::Entry* RowInQuestion::unmet_entry(const Candidate& candidate, bool with_its_distance) {
  const RoundingRange range = rounding_range(candidate);
  for (Entry& entry : std::ranges::equal_range(entries_, candidate.id, {}, &Entry::id)) {
    const bool has_distance = entry.key >= range.low && entry.key <= range.high;
    if (!entry.is_met && (has_distance || !with_its_distance)) return &entry;
  }
  return nullptr;
}

void RowInQuestion::meet(const Candidate& candidate) {
  const RoundingRange range = rounding_range(candidate);
  if (range.low > limit_) return;  // an entry that names it stays unmet
  if (Entry* entry = unmet_entry(candidate, true)) {
    entry->is_met = true;
    if (entry->key != candidate.rounded) ++found_.rounding_distances;
  } else if (Entry* wrong = unmet_entry(candidate, false)) {
    wrong->is_met = true;
    ++found_.wrong_distances;
    object(entry_text(*wrong) + ", in fp64 it is " +
           app::text_of(smaller_is_better(metric_) ? candidate.key : -candidate.key));
  } else if (range.high > limit_) {
    ++found_.rounding_places;
  } else {
    ++found_.missing_entries;
    object("id " + std::to_string(candidate.id) + " with distance " + text_of(candidate.rounded) +
           " is missing");
  }
}

void RowInQuestion::finish(OracleVerdict& verdict) {
  for (const Entry& entry : entries_) {
    if (entry.is_met) continue;
    ++found_.surplus_entries;
    object(entry_text(entry) + " is too much: no such row is within " + text_of(limit_));
  }
  found_.queries = 1;
  found_.entries = std::ssize(entries_);
  found_.wrong_queries = std::min<std::int64_t>(found_.wrong_queries, 1);
  add(verdict, found_);
}

void add(OracleVerdict& sum, const OracleVerdict& part) {
  if (sum.wrong_queries == 0) {
    sum.first_wrong_row = part.first_wrong_row;
    sum.first_wrong_reason = part.first_wrong_reason;
  }
  sum.queries += part.queries;
  sum.wrong_queries += part.wrong_queries;
  sum.rounding_distances += part.rounding_distances;
  sum.rounding_places += part.rounding_places;
  sum.true_neighbors += part.true_neighbors;
  sum.met_neighbors += part.met_neighbors;
  sum.entries += part.entries;
  sum.missing_entries += part.missing_entries;
  sum.surplus_entries += part.surplus_entries;
  sum.wrong_distances += part.wrong_distances;
}

bool comes_before(const Candidate& a, const Candidate& b) {
  if (a.rounded < b.rounded) return true;
  if (b.rounded < a.rounded) return false;
  return a.id < b.id;
}

void judge(AnswerInQuestion& answer, Metric metric, OracleVerdict& verdict) {
  ++verdict.queries;
  std::ranges::sort(answer.best, comes_before);
  const Judge judge(answer, metric);
  std::string reason = judge.wrong_entries();
  if (reason.empty() && !answer.may_lack) reason = judge.missing_neighbor();
  if (answer.may_lack) judge.count_met(verdict);
  if (reason.empty()) {
    judge.count_roundings(verdict);
    return;
  }
  if (verdict.wrong_queries++ > 0) return;
  verdict.first_wrong_row = answer.result_row;
  verdict.first_wrong_reason = reason;
}

}  // namespace mpishards::app

#include "app/curve_judge.hpp"

#include <algorithm>
#include <utility>

#include "app/eval_truth.hpp"
#include "core/error.hpp"
#include "rank/job_attributes.hpp"

namespace mpishards::app {

namespace {

/// What `eval` allows unasked.
constexpr double kRelativeTolerance = 1e-6;

/// Answers in memory as if they had been read from a result.
class Answers : public io::ResultReader {
 public:
  Answers(TopK rows, std::int64_t d) : rows_(std::move(rows)) {
    attributes_ = {{"metric", std::string(to_string(rows_.metric()))},
                   {"distance", rank::distance_name(rows_.metric())},
                   {"d", d}};
  }
  std::int64_t nq() const override { return rows_.nq(); }
  std::int64_t k() const override { return rows_.k(); }
  bool has_distances() const override { return true; }
  const io::Attributes& attributes() const override { return attributes_; }
  TopK read(std::int64_t begin, std::int64_t end) const override {
    TopK part(end - begin, rows_.k(), rows_.metric());
    const std::int64_t count = part.nq() * part.k();
    std::copy_n(rows_.neighbors() + begin * rows_.k(), count, part.neighbors());
    std::copy_n(rows_.distances() + begin * rows_.k(), count, part.distances());
    return part;
  }

 private:
  TopK rows_;
  io::Attributes attributes_;
};

/// Whether a neighbor is clearly closer than the truth says that any can be in its place.
bool beats_truth(ConstNeighborRow found, ConstNeighborRow truth, const Convention& ours,
                 const Convention& theirs) {
  constexpr DistanceTolerance kClearly = {1e-2, 1e-2};
  const std::size_t places = std::min(found.neighbors.size(), truth.neighbors.size());
  for (std::size_t i = 0; i < places; ++i) {
    if (found.neighbors[i] == kNoNeighbor || truth.neighbors[i] == kNoNeighbor) return false;
    const double limit = theirs.to_comparable(truth.distances[i]);
    if (ours.to_comparable(found.distances[i]) < limit - kClearly.slack(limit)) return true;
  }
  return false;
}

/// A truth of other vectors is beaten by what a search finds. A few queries may be, where other code rounds.
void require_possible(const io::ResultReader& answers, const io::ResultReader& truth,
                      const TruthReport& report) {
  constexpr double kMostBeaten = 0.05;
  constexpr std::int64_t kBlock = 1024;
  const Convention ours = conventions_of(report.metric).front();
  std::int64_t beaten = 0;
  for (std::int64_t begin = 0; begin < report.nq; begin += kBlock) {
    const std::int64_t end = std::min(report.nq, begin + kBlock);
    const TopK found = answers.read(begin, end);
    const TopK best = truth.read(begin, end);
    for (std::int64_t q = 0; q < end - begin; ++q)
      beaten += beats_truth(found.row(q), best.row(q), ours, *report.recognised.convention) ? 1 : 0;
  }
  if (static_cast<double>(beaten) > kMostBeaten * static_cast<double>(report.nq))
    throw Error(ErrorKind::data, report.truth_path + " is the truth of other vectors: for " +
                                     std::to_string(beaten) + " of " + std::to_string(report.nq) +
                                     " queries " + report.result_path +
                                     " found a closer neighbor than it knows; give the truth of these "
                                     "queries in this base, or leave --truth out");
}

}  // namespace

CurveJudge::CurveJudge(std::string truth_path, std::int64_t k)
    : path_(std::move(truth_path)), truth_(io::open_result(path_)) {
  if (truth_->k() < k)
    throw Error(ErrorKind::usage, path_ + " has " + std::to_string(truth_->k()) +
                                      " neighbors a query, -k is " + std::to_string(k) +
                                      "; give a truth with as many, or -k " + std::to_string(truth_->k()));
}

void CurveJudge::take(TopK exact, std::int64_t d) {
  path_ = "the search in all lists";
  truth_ = std::make_unique<Answers>(std::move(exact), d);
}

void CurveJudge::require_queries(std::int64_t nq) const {
  if (truth_ && truth_->nq() != nq)
    throw Error(ErrorKind::data, path_ + " answers " + std::to_string(truth_->nq()) + " queries, there are " +
                                     std::to_string(nq) + "; give the truth of the same queries");
}

std::map<std::int64_t, double> CurveJudge::recall(TopK answers, std::int64_t d, const std::string& what) {
  const Answers found(std::move(answers), d);
  const TruthReport report = compare_with_truth(found, *truth_,
                                                {.result_path = what,
                                                 .truth_path = path_,
                                                 .relative_tolerance = kRelativeTolerance,
                                                 .at = {1, 10, 100},
                                                 .skip_larger_at = true});
  const bool by_distance = report.recognised.convention.has_value();
  if (by_distance) require_possible(found, *truth_, report);
  by_distance_ = by_distance_ && by_distance;
  std::map<std::int64_t, double> recall;
  for (const AtCount& at : report.comparison.at)
    recall[at.at] = by_distance ? at.by_distance.recall() : at.by_id.recall();
  return recall;
}

}  // namespace mpishards::app

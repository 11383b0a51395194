#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "app/oracle.hpp"
#include "core/metric.hpp"
#include "core/types.hpp"

namespace mpishards::app {

/// One base row as a neighbor. `key` is the distance in double, negated where larger is better.
struct Candidate {
  double key = 0;
  float rounded = 0;
  double doubt = 0;  // how far off the key may be
  GlobalId id = kNoNeighbor;
};

/// By the rounded key, then by the smaller id.
bool comes_before(const Candidate& a, const Candidate& b);

/// A row of a result, and what the oracle computed for its query.
struct AnswerInQuestion {
  std::int64_t result_row = 0;
  std::vector<GlobalId> neighbors;
  std::vector<float> distances;
  std::vector<std::optional<Candidate>> claimed;  // by place: the base row that the result names
  std::vector<Candidate> best;                    // k of them and some spare ones, or all there are
};

/// Adds what there is to say about one row to the verdict. Sorts `best`.
void judge(AnswerInQuestion& answer, Metric metric, OracleVerdict& verdict);

}  // namespace mpishards::app

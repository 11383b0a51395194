#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/oracle.hpp"
#include "core/metric.hpp"
#include "core/topk.hpp"
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
  bool may_lack = false;                          // the search did not look at every base row
};

/// A row of a sparse matrix of all rows within a limit, judged while the base rows come by.
class RowInQuestion {
 public:
  /// @param entries  as they are written
  RowInQuestion(std::int64_t result_row, ConstNeighborRow entries, Metric metric, float eps);

  /// Takes in a base row that the matrix may hold in this row.
  void meet(const Candidate& candidate);
  /// Adds what there is to say about the row, once it has met the whole base.
  void finish(OracleVerdict& verdict);

 private:
  struct Entry {
    GlobalId id = kNoNeighbor;
    float key = 0;
    bool is_met = false;
  };
  Entry* unmet_entry(const Candidate& candidate, bool with_its_distance);
  std::string text_of(float key) const;
  std::string entry_text(const Entry& entry) const;
  void object(const std::string& reason);

  std::int64_t result_row_;
  Metric metric_;
  float limit_;                 // as a key
  std::vector<Entry> entries_;  // by id, then key
  OracleVerdict found_;         // of this row alone
};

/// Adds what is wrong in one part of the rows to what is wrong in those before.
void add(OracleVerdict& sum, const OracleVerdict& part);

/// Adds what there is to say about one row to the verdict. Sorts `best`.
void judge(AnswerInQuestion& answer, Metric metric, OracleVerdict& verdict);

}  // namespace mpishards::app

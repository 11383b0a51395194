#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/topk.hpp"
#include "io/results_writer.hpp"

namespace mpishards::app {

/// Tells the recall of answers to all queries of a sweep, as `eval RESULT TRUTH` does. Of rank 0 alone.
class CurveJudge {
 public:
  /// Has no truth yet: take() brings it.
  CurveJudge() = default;
  /// @throws Error{input_missing|data}; Error{usage} where the truth has fewer than k neighbors a query
  CurveJudge(std::string truth_path, std::int64_t k);

  /// The exact answers, from a search.
  void take(TopK exact, std::int64_t d);
  /// @throws Error{data} where a truth from a file is not one of exactly so many queries
  void require_queries(std::int64_t nq) const;

  /// Recall at 1, 10, 100 and k, as far as they are at most k. @param what  names the answers in messages
  /// @throws Error{data} where the truth can't be that of these queries and rows
  std::map<std::int64_t, double> recall(TopK answers, std::int64_t d, const std::string& what);
  /// Whether every recall so far counts an equal distance as found.
  bool is_by_distance() const { return by_distance_; }

 private:
  std::string path_;
  std::unique_ptr<io::ResultReader> truth_;
  bool by_distance_ = true;
};

}  // namespace mpishards::app

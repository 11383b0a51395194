#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/oracle.hpp"

namespace mpishards::app {

struct OracleRequest {
  std::string result_path;
  std::vector<std::string> base;     // empty: the files that the result names
  std::vector<std::string> queries;  // likewise
  std::int64_t count = 0;            // of queries to compute again; 0: all
  std::uint64_t seed = 1;
  int threads = 1;
};

struct OracleReport {
  std::int64_t nq = 0;     // of the result
  bool is_matrix = false;  // of all rows within a limit
  std::string base;        // what was read
  std::string queries;
  OracleVerdict verdict;
};

/// Opens a result and the inputs that it was computed from, and lets the oracle judge it. Inputs with another
/// time stamp are warned of on stderr.
/// @throws Error{input_missing|data} where the inputs are gone, have changed, or don't fit the result
OracleReport judge_by_oracle(const OracleRequest& request);

}  // namespace mpishards::app

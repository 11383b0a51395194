#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/metric.hpp"
#include "io/csr_file.hpp"
#include "io/results_writer.hpp"
#include "io/vector_source.hpp"

namespace mpishards::app {

/// A sparse matrix of all rows within a limit.
struct MatrixInQuestion {
  const io::CsrSource* rows = nullptr;
  float eps = 0;            // l2: largest squared distance; ip, cosine: smallest similarity
  bool later_only = false;  // row i holds base rows behind i alone: each pair once
};

/// What a result claims to be the answer to.
struct OracleTask {
  const io::VectorSource* base = nullptr;
  const io::VectorSource* queries = nullptr;
  const io::ResultReader* result = nullptr;  // or
  std::optional<MatrixInQuestion> matrix;
  Metric metric = Metric::l2;
  std::int64_t query_begin = 0;  // row of the queries that the result's row 0 answers
  std::int64_t base_begin = 0;   // rows of the base that were searched
  std::int64_t base_end = 0;
  bool drop_nonfinite = false;
  bool in_lists =
      false;  // the search looked into a part of the index: what it met must be right, not all of it be met
  bool exclude_self = false;  // a graph: base row i is no answer to query i, and ids are row numbers
  int threads = 1;
  std::int64_t block_bytes = std::int64_t{64} << 20;  // of base rows in double, held at a time
};

/// What a re-computation in fp64 found.
struct OracleVerdict {
  std::int64_t queries = 0;
  std::int64_t wrong_queries = 0;
  std::int64_t rounding_distances = 0;  // one unit off because a sum of doubles lies at a boundary of float32
  std::int64_t rounding_places = 0;     // ids at another place for the same reason
  // Of a search in some lists: how many true neighbors there are, and how many it met, ties by distance.
  std::int64_t true_neighbors = 0;
  std::int64_t met_neighbors = 0;
  // Of a matrix: entries compared, and what is wrong with how many of them.
  std::int64_t entries = 0;
  std::int64_t missing_entries = 0;
  std::int64_t surplus_entries = 0;
  std::int64_t wrong_distances = 0;
  std::int64_t first_wrong_row = -1;  // row of the result
  std::string first_wrong_reason;
  bool exact() const { return wrong_queries == 0; }
};

/// Re-computes rows of a result in fp64 and judges them.
///
/// Plain loops over the stored values (narrowed to float32 where they are float64), sums in double in the
/// order of the columns; it shares no code with the search. A row is right if it has exactly the neighbors,
/// order, distances and padding that these sums give when rounded once to float32, ties by smaller id; after
/// a search in some lists, if what it has is right, whatever it lacks; a row of a matrix, if it has exactly
/// the base rows whose rounded distance is within the limit. Where a sum lies within 1e-12 of a boundary
/// between two float32, either side is accepted and counted.
/// @param rows  rows of the result, increasing
/// @throws Error{data|io} from reading; Error{data} on non-finite values unless they are dropped
/// @par Cost  rows * nb * d multiplications in double, one pass over the base for every 32768 rows, of a
/// matrix for every four million entries too
OracleVerdict consult_oracle(const OracleTask& task, const std::vector<std::int64_t>& rows);

/// `count` different numbers below `size`, increasing, chosen by `seed`; all of them if count is 0 or >=
/// size.
std::vector<std::int64_t> sample_rows(std::int64_t size, std::int64_t count, std::uint64_t seed);

}  // namespace mpishards::app

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/topk.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Some rows of a base and their ids, in memory.
struct PickedRows {
  Matrix vectors;  // as they are stored
  std::vector<GlobalId> ids;
};

/// Ranks candidates by the rows that are stored: what codes found comes out with exact distances.
class CandidateRanker {
 public:
  /// @param base  must outlive the ranker
  CandidateRanker(const io::VectorSource& base, Metric metric, std::string isa, int threads)
      : base_(base), metric_(metric), isa_(std::move(isa)), threads_(threads) {}

  /// The best k of every query's candidates, by the distances and in the order of an exact search.
  /// @param queries     float32, nq x d
  /// @param candidates  nq rows; ids are row numbers of the base
  /// @throws Error{io|data} naming the file @par Memory see bytes_for
  /// @par Cost  reads each candidate's row once for each piece of queries that names it
  TopK rank(MatrixView<const float> queries, const TopK& candidates, std::int64_t k) const;

  /// One query's candidates, read one by one. @param candidates  row numbers, padding is left out
  PickedRows read_one_by_one(std::span<const GlobalId> candidates) const;

  /// What rank() holds of rows on all threads, at most. @param queries  at once
  static std::int64_t bytes_for(std::int64_t queries, std::int64_t candidates, std::int64_t d, DType dtype,
                                int threads);

 private:
  struct Ranked {
    std::int64_t query;
    float distance;
    GlobalId row;  // of the base
  };
  /// @param rows  ascending
  Matrix read_vectors(std::span<const GlobalId> rows) const;
  std::vector<GlobalId> read_ids(std::span<const GlobalId> rows) const;
  void name_and_order(std::vector<Ranked>& kept, TopK& out) const;
  void rank_piece(MatrixView<const float> queries, const TopK& candidates, std::int64_t begin,
                  std::int64_t end, TopK& out) const;

  const io::VectorSource& base_;
  Metric metric_;
  std::string isa_;
  int threads_;
};

}  // namespace mpishards::rank

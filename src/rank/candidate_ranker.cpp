#include "rank/candidate_ranker.hpp"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "core/narrow.hpp"
#include "kernels/cpu/exact_distances.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/isa.hpp"
#include "rank/first_failure.hpp"

namespace mpishards::rank {

namespace {

/// Rows that a thread holds at once, where it holds those of several queries.
constexpr std::int64_t kBlockBytes = std::int64_t{8} << 20;

/// A candidate's row; its number among the sorted ones, twice with the ids; and where it is ranked, in a list
/// that may have grown to twice its size.
std::int64_t candidate_bytes(std::int64_t d, DType dtype) {
  constexpr std::int64_t kNumbers = 3 * sizeof(GlobalId);
  constexpr std::int64_t kRanked = 72;
  return d * narrow<std::int64_t>(size_bytes(dtype)) + kNumbers + kRanked;
}

/// Queries that a thread ranks at once.
std::int64_t piece_queries(std::int64_t queries, std::int64_t bytes_a_query, int threads) {
  const std::int64_t share = (queries + threads - 1) / threads;
  return std::max<std::int64_t>(1, std::min(share, kBlockBytes / bytes_a_query));
}

/// Row numbers of some queries' candidates, ascending, each once.
std::vector<GlobalId> rows_of(const TopK& candidates, std::int64_t begin, std::int64_t end) {
  std::vector<GlobalId> rows(candidates.neighbors() + begin * candidates.k(),
                             candidates.neighbors() + end * candidates.k());
  std::ranges::sort(rows);
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  rows.erase(rows.begin(), std::ranges::upper_bound(rows, kNoNeighbor));
  return rows;
}

/// Calls read(begin, end, place of begin) for each run of rows that follow each other.
template <class Read>
void each_run(std::span<const GlobalId> rows, const Read& read) {
  for (std::size_t begin = 0; begin < rows.size();) {
    std::size_t end = begin + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    read(rows[begin], rows[end - 1] + 1, begin);
    begin = end;
  }
}

std::size_t place_of(GlobalId row, std::span<const GlobalId> rows) {
  return narrow<std::size_t>(std::ranges::lower_bound(rows, row) - rows.begin());
}

/// Appends one query's candidates that may be among its best k: those as near as the k-th, which ids put in
/// order.
template <class Ranked>
void keep_nearest(std::vector<Ranked>& of_query, std::size_t k, Metric metric, std::vector<Ranked>& kept) {
  const bool smaller = smaller_is_better(metric);
  const auto nearer = [smaller](const Ranked& a, const Ranked& b) {
    return smaller ? a.distance < b.distance : a.distance > b.distance;
  };
  if (of_query.size() > k) {
    const auto kth = of_query.begin() + static_cast<std::ptrdiff_t>(k) - 1;
    std::ranges::nth_element(of_query, kth, nearer);
    const Ranked last = *kth;
    std::erase_if(of_query, [&](const Ranked& one) { return nearer(last, one); });
  }
  kept.insert(kept.end(), of_query.begin(), of_query.end());
}

}  // namespace

Matrix CandidateRanker::read_vectors(std::span<const GlobalId> rows) const {
  Matrix vectors(base_.dtype(), std::ssize(rows), base_.cols());
  const std::size_t row_bytes = vectors.view().row_bytes();
  each_run(rows, [&](GlobalId begin, GlobalId end, std::size_t place) {
    base_.read_rows(begin, end, vectors.data() + place * row_bytes);
  });
  return vectors;
}

std::vector<GlobalId> CandidateRanker::read_ids(std::span<const GlobalId> rows) const {
  std::vector<GlobalId> ids(rows.begin(), rows.end());
  if (!base_.has_ids()) return ids;
  each_run(rows, [&](GlobalId begin, GlobalId end, std::size_t place) {
    base_.read_ids(begin, end, std::span(ids).subspan(place, narrow<std::size_t>(end - begin)));
  });
  return ids;
}

void CandidateRanker::rank_piece(MatrixView<const float> queries, const TopK& candidates, std::int64_t begin,
                                 std::int64_t end, TopK& out) const {
  const kernels::cpu::DefaultFloatEnvironment environment;
  const std::vector<GlobalId> rows = rows_of(candidates, begin, end);
  const Matrix vectors = read_vectors(rows);
  kernels::cpu::ExactDistances exact;
  exact.reserve(end - begin, queries.cols, base_.dtype());
  exact.begin(metric_, kernels::cpu::find_isa(isa_), queries.slice(begin, end), base_.dtype());
  std::vector<Ranked> kept;
  std::vector<Ranked> of_query;
  for (std::int64_t q = begin; q < end; ++q) {
    of_query.clear();
    for (const GlobalId row : candidates.row(q).neighbors) {
      if (row == kNoNeighbor) break;
      const auto at = static_cast<std::int64_t>(place_of(row, rows));
      of_query.push_back({q, exact.distance(q - begin, vectors.view().row(at)), row});
    }
    keep_nearest(of_query, static_cast<std::size_t>(out.k()), metric_, kept);
  }
  name_and_order(kept, out);
}

/// Only what is near enough to be written needs its id.
void CandidateRanker::name_and_order(std::vector<Ranked>& kept, TopK& out) const {
  std::vector<GlobalId> rows;
  for (const Ranked& one : kept) rows.push_back(one.row);
  std::ranges::sort(rows);
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  const std::vector<GlobalId> ids = read_ids(rows);
  for (Ranked& one : kept) one.row = ids[place_of(one.row, rows)];
  const Closer closer(metric_);
  std::ranges::sort(kept, [&](const Ranked& a, const Ranked& b) {
    return a.query != b.query ? a.query < b.query : closer(a.row, a.distance, b.row, b.distance);
  });
  std::int64_t query = -1;
  std::size_t place = 0;
  for (const Ranked& one : kept) {
    place = one.query == query ? place + 1 : 0;
    query = one.query;
    const NeighborRow answer = out.row(query);
    if (place >= answer.neighbors.size()) continue;
    answer.neighbors[place] = one.row;
    answer.distances[place] = one.distance;
  }
}

TopK CandidateRanker::rank(MatrixView<const float> queries, const TopK& candidates, std::int64_t k) const {
  TopK out(queries.rows, k, metric_);
  const std::int64_t step =
      piece_queries(queries.rows, candidates.k() * candidate_bytes(base_.cols(), base_.dtype()), threads_);
  FirstFailure failure;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
  for (std::int64_t begin = 0; begin < queries.rows; begin += step)
    failure.guard([&] { rank_piece(queries, candidates, begin, std::min(queries.rows, begin + step), out); });
  failure.rethrow();
  return out;
}

std::int64_t CandidateRanker::bytes_for(std::int64_t queries, std::int64_t candidates, std::int64_t d,
                                        DType dtype, int threads) {
  const std::int64_t of_query = candidates * candidate_bytes(d, dtype);
  return threads * piece_queries(queries, of_query, threads) * of_query;
}

PickedRows CandidateRanker::read_one_by_one(std::span<const GlobalId> candidates) const {
  std::vector<GlobalId> rows;
  std::ranges::copy_if(candidates, std::back_inserter(rows), [](GlobalId row) { return row != kNoNeighbor; });
  PickedRows picked{Matrix(base_.dtype(), std::ssize(rows), base_.cols()), rows};
  const std::size_t row_bytes = picked.vectors.view().row_bytes();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    base_.read_rows(rows[i], rows[i] + 1, picked.vectors.data() + i * row_bytes);
    if (base_.has_ids()) base_.read_ids(rows[i], rows[i] + 1, std::span(picked.ids).subspan(i, 1));
  }
  return picked;
}

}  // namespace mpishards::rank

#include "app/oracle.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "app/oracle_judgement.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"

namespace mpishards::app {

namespace {

constexpr std::size_t kTileRows = 8;          // base rows whose sums advance together
constexpr std::size_t kQueriesAtOnce = 8;     // of one thread, so that a tile is used while it is in cache
constexpr std::size_t kSpareCandidates = 16;  // beyond k: enough to see who was left out for rounding's sake
constexpr std::size_t kRowsInPass = 32768;
constexpr std::int64_t kEntriesInPass = 1 << 22;  // of a matrix, held beside the block
constexpr double kRelativeDoubt = 1e-12;  // bounds what the order of summation can do, with room to spare

/// A row of the base whose distance the result claims, and at which place.
struct Claim {
  std::int64_t row = 0;
  std::size_t place = 0;
};

/// One query with what the result says and what was found so far.
struct QueryState {
  std::vector<double> values;
  double norm = 0;
  std::int64_t own_row = -1;  // of the base, no answer
  std::vector<Claim> claims;  // by row
  std::size_t next_claim = 0;
  AnswerInQuestion answer;           // `best` is a heap, the worst on top
  std::optional<RowInQuestion> row;  // instead, of a matrix
};

/// Base rows in double, transposed in tiles: column j of the tile's rows lies together.
struct Block {
  std::int64_t begin = 0;  // row of the base
  std::int64_t rows = 0;
  std::vector<double> tiles;
  std::vector<double> norms;
  std::vector<GlobalId> ids;
  std::vector<char> dropped;
};

class Oracle {
 public:
  Oracle(const OracleTask& task, const std::vector<std::int64_t>& rows)
      : task_(task), d_(narrow<std::size_t>(task.base->cols())) {
    if (task.queries->cols() != task.base->cols())
      throw Error(ErrorKind::data, "queries.d = " + std::to_string(task.queries->cols()) +
                                       ", base.d = " + std::to_string(task.base->cols()));
    for (const std::int64_t row : rows) queries_.push_back(read_query(row));
    find_claimed_rows();
  }

  OracleVerdict judge_all() {
    const std::int64_t block_rows = std::max<std::int64_t>(
        1, task_.block_bytes / (task_.base->cols() * narrow<std::int64_t>(sizeof(double))));
    for (std::int64_t begin = task_.base_begin; begin < task_.base_end; begin += block_rows)
      search(read_block(begin, std::min(begin + block_rows, task_.base_end)));
    OracleVerdict verdict;
    for (QueryState& query : queries_) {
      if (query.row)
        query.row->finish(verdict);
      else
        judge(query.answer, task_.metric, verdict);
    }
    return verdict;
  }

 private:
  std::vector<float> read_floats(const io::VectorSource& source, std::int64_t begin, std::int64_t end) const {
    const Matrix stored = source.read_matrix(begin, end);
    std::vector<float> values(narrow<std::size_t>((end - begin) * source.cols()));
    to_float32(stored.dtype(), stored.data(), narrow<std::int64_t>(values.size()), values.data());
    return values;
  }

  bool has_ids() const { return task_.base->has_ids() && !task_.exclude_self; }

  static bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
  }

  QueryState read_query(std::int64_t result_row) const {
    QueryState query;
    query.answer.result_row = result_row;
    query.answer.may_lack = task_.in_lists;
    const std::int64_t row = task_.query_begin + result_row;
    const std::vector<float> values = read_floats(*task_.queries, row, row + 1);
    if (!all_finite(values))
      throw Error(ErrorKind::data, task_.queries->describe_row(row) + " holds a value that is not finite");
    query.values.assign(values.begin(), values.end());
    query.norm = norm_of(query.values);
    if (task_.exclude_self) query.own_row = row;
    if (const auto& matrix = task_.matrix) {
      const io::CsrRows entries = matrix->rows->read_rows(result_row, result_row + 1);
      query.row.emplace(result_row, entries.row(0), task_.metric, matrix->eps);
      return query;
    }
    const TopK answer = task_.result->read(result_row, result_row + 1);
    const auto k = narrow<std::size_t>(answer.k());
    query.answer.neighbors.assign(answer.neighbors(), answer.neighbors() + k);
    query.answer.distances.assign(answer.distances(), answer.distances() + k);
    query.answer.claimed.resize(k);
    return query;
  }

  static double norm_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return std::sqrt(sum);
  }

  /// Base row of every id that the results name. Ids that name none stay without a claim.
  void find_claimed_rows() {
    std::unordered_map<GlobalId, std::int64_t> row_of;
    if (has_ids() && !task_.matrix) {
      for (const QueryState& query : queries_)
        for (const GlobalId id : query.answer.neighbors) row_of.emplace(id, -1);
      for (std::int64_t row = task_.base_begin; row < task_.base_end; ++row) {
        const auto found = row_of.find(id_of_row(row));
        if (found != row_of.end()) found->second = row;
      }
    }
    for (QueryState& query : queries_) {
      for (std::size_t place = 0; place < query.answer.neighbors.size(); ++place) {
        const GlobalId id = query.answer.neighbors[place];
        const std::int64_t row = has_ids() ? row_of.at(id) : id;
        if (id != kNoNeighbor && row >= task_.base_begin && row < task_.base_end)
          query.claims.push_back({row, place});
      }
      std::ranges::sort(query.claims, {}, &Claim::row);
    }
  }

  /// Ids are read in runs: one at a time would be a read call each.
  GlobalId id_of_row(std::int64_t row) {
    constexpr std::int64_t kRun = 1 << 16;
    if (row < ids_begin_ || row >= ids_begin_ + narrow<std::int64_t>(ids_.size())) {
      ids_begin_ = row;
      ids_.resize(narrow<std::size_t>(std::min(row + kRun, task_.base_end) - row));
      task_.base->read_ids(row, row + narrow<std::int64_t>(ids_.size()), ids_);
    }
    return ids_[narrow<std::size_t>(row - ids_begin_)];
  }

  Block read_block(std::int64_t begin, std::int64_t end) {
    Block block;
    block.begin = begin;
    block.rows = end - begin;
    const auto rows = narrow<std::size_t>(block.rows);
    const std::vector<float> values = read_floats(*task_.base, begin, end);
    const std::size_t tiles = (rows + kTileRows - 1) / kTileRows;
    block.tiles.assign(tiles * kTileRows * d_, 0.0);
    block.norms.assign(rows, 0.0);
    block.dropped.assign(rows, 0);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::span<const float> row(values.data() + r * d_, d_);
      if (!all_finite(row)) drop_row(block, r);
      double sum = 0;
      for (std::size_t j = 0; j < d_; ++j) {
        const double value = row[j];
        block.tiles[(r / kTileRows * d_ + j) * kTileRows + r % kTileRows] = value;
        sum += value * value;
      }
      block.norms[r] = std::sqrt(sum);
      block.ids.push_back(has_ids() ? id_of_row(begin + narrow<std::int64_t>(r))
                                    : begin + narrow<std::int64_t>(r));
    }
    return block;
  }

  void drop_row(Block& block, std::size_t r) const {
    if (!task_.drop_nonfinite)
      throw Error(ErrorKind::data, task_.base->describe_row(block.begin + narrow<std::int64_t>(r)) +
                                       " holds a value that is not finite, and the result was not made with "
                                       "--nonfinite drop");
    block.dropped[r] = 1;
  }

  /// All queries against one block, shared out among threads.
  void search(const Block& block) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto work = [&] {
      try {
        for (std::size_t begin = next.fetch_add(kQueriesAtOnce); begin < queries_.size();
             begin = next.fetch_add(kQueriesAtOnce))
          search_queries(block, begin, std::min(begin + kQueriesAtOnce, queries_.size()));
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int t = 1; t < task_.threads; ++t) threads.emplace_back(work);
      work();
    }
    if (failure) std::rethrow_exception(failure);
  }

  void search_queries(const Block& block, std::size_t begin, std::size_t end) {
    const auto rows = narrow<std::size_t>(block.rows);
    for (std::size_t first = 0; first < rows; first += kTileRows) {
      const double* tile = block.tiles.data() + first * d_;
      const std::size_t count = std::min(kTileRows, rows - first);
      for (std::size_t q = begin; q < end; ++q) {
        double sums[kTileRows] = {};
        if (task_.metric == Metric::l2) {
          add_squared_differences(queries_[q].values.data(), tile, sums);
        } else {
          add_products(queries_[q].values.data(), tile, sums);
        }
        for (std::size_t r = 0; r < count; ++r) offer(queries_[q], block, first + r, sums[r]);
      }
    }
  }

  void add_squared_differences(const double* query, const double* tile, double* sums) const {
    for (std::size_t j = 0; j < d_; ++j)
      for (std::size_t r = 0; r < kTileRows; ++r) {
        const double difference = query[j] - tile[j * kTileRows + r];
        sums[r] += difference * difference;
      }
  }

  void add_products(const double* query, const double* tile, double* sums) const {
    for (std::size_t j = 0; j < d_; ++j)
      for (std::size_t r = 0; r < kTileRows; ++r) sums[r] += query[j] * tile[j * kTileRows + r];
  }

  Candidate candidate_of(const QueryState& query, const Block& block, std::size_t r, double sum) const {
    Candidate candidate;
    candidate.id = block.ids[r];
    const double norms = query.norm * block.norms[r];
    if (task_.metric == Metric::l2) {
      candidate.key = sum;
      candidate.doubt = kRelativeDoubt * sum;
    } else if (task_.metric == Metric::ip) {
      candidate.key = -sum;
      candidate.doubt = kRelativeDoubt * norms;  // terms may cancel, their errors don't
    } else {
      candidate.key = norms > 0 ? -sum / norms : 0.0;
      candidate.doubt = norms > 0 ? kRelativeDoubt : 0.0;
    }
    candidate.rounded = static_cast<float>(candidate.key);
    return candidate;
  }

  void offer(QueryState& query, const Block& block, std::size_t r, double sum) const {
    const std::int64_t row = block.begin + narrow<std::int64_t>(r);
    if (query.row) {
      const bool is_asked_for = row != query.own_row && (!task_.matrix->later_only || row > query.own_row);
      if (is_asked_for && block.dropped[r] == 0) query.row->meet(candidate_of(query, block, r, sum));
      return;
    }
    const bool claimed = query.next_claim < query.claims.size() && query.claims[query.next_claim].row == row;
    if (block.dropped[r] != 0 || row == query.own_row) return;
    const Candidate candidate = candidate_of(query, block, r, sum);
    if (claimed)
      for (; query.next_claim < query.claims.size() && query.claims[query.next_claim].row == row;
           ++query.next_claim)
        query.answer.claimed[query.claims[query.next_claim].place] = candidate;
    const std::size_t kept = query.answer.neighbors.size() + kSpareCandidates;
    if (query.answer.best.size() < kept) {
      query.answer.best.push_back(candidate);
      std::ranges::push_heap(query.answer.best, comes_before);
    } else if (comes_before(candidate, query.answer.best.front())) {
      std::ranges::pop_heap(query.answer.best, comes_before);
      query.answer.best.back() = candidate;
      std::ranges::push_heap(query.answer.best, comes_before);
    }
  }

  const OracleTask& task_;
  std::size_t d_;
  std::vector<QueryState> queries_;
  std::vector<GlobalId> ids_;
  std::int64_t ids_begin_ = 0;
};

/// Behind the last row that one pass over the base takes in.
std::size_t end_of_pass(const OracleTask& task, const std::vector<std::int64_t>& rows, std::size_t begin) {
  std::size_t end = std::min(begin + kRowsInPass, rows.size());
  if (!task.matrix) return end;
  std::int64_t entries = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const std::vector<std::int64_t> offsets = task.matrix->rows->read_offsets(rows[i], rows[i] + 1);
    entries += offsets.back() - offsets.front();
    if (entries > kEntriesInPass) end = std::max(i, begin + 1);
  }
  return end;
}

}  // namespace

OracleVerdict consult_oracle(const OracleTask& task, const std::vector<std::int64_t>& rows) {
  OracleVerdict verdict;
  for (std::size_t begin = 0; begin < rows.size();) {
    const std::size_t end = end_of_pass(task, rows, begin);
    const std::vector<std::int64_t> pass(rows.begin() + static_cast<std::ptrdiff_t>(begin),
                                         rows.begin() + static_cast<std::ptrdiff_t>(end));
    add(verdict, Oracle(task, pass).judge_all());
    begin = end;
  }
  return verdict;
}

std::vector<std::int64_t> sample_rows(std::int64_t size, std::int64_t count, std::uint64_t seed) {
  if (count <= 0 || count >= size) {
    std::vector<std::int64_t> all(narrow<std::size_t>(size));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    return all;
  }
  // Floyd's way: as many draws as numbers wanted, none twice.
  std::mt19937_64 random(seed);
  std::unordered_set<std::int64_t> chosen;
  for (std::int64_t top = size - count; top < size; ++top) {
    const auto drawn = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(top + 1));
    if (!chosen.insert(drawn).second) chosen.insert(top);
  }
  std::vector<std::int64_t> rows(chosen.begin(), chosen.end());
  std::ranges::sort(rows);
  return rows;
}

}  // namespace mpishards::app

#include "rank/range_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "comm/agree.hpp"
#include "core/topk.hpp"
#include "rank/float_blocks.hpp"
#include "rank/plain_distance.hpp"

namespace mpishards::rank {

void RangeChecker::begin(Matrix queries, std::vector<std::int64_t> result_rows) {
  queries_ = std::move(queries);
  result_rows_ = std::move(result_rows);
  seen_.assign(result_rows_.size(), {});
}

bool RangeChecker::is_asked_for(std::int64_t query, GlobalId id) const {
  const GlobalId self = result_rows_[static_cast<std::size_t>(query)];
  if (range_.pairs == kernels::RangePairs::later) return id > self;
  return range_.pairs == kernels::RangePairs::all || id != self;
}

bool RangeChecker::is_within(float distance) const {
  return smaller_is_better(metric_) ? distance <= range_.eps : distance >= range_.eps;
}

void RangeChecker::observe_block(std::int64_t query, MatrixView<const float> rows, const kernels::RowIds& ids,
                                 std::int64_t first_row) {
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const GlobalId id = ids[first_row + r];
    if (!is_asked_for(query, id)) continue;
    const double distance = distance_of(metric_, queries_.as<float>().row(query), rows.row(r), rows.cols);
    const auto rounded = static_cast<float>(distance);
    if (is_within(rounded) || within_one_ulp(rounded, range_.eps))
      seen_[static_cast<std::size_t>(query)].push_back({distance, id});
  }
}

void RangeChecker::observe(TypedView base, kernels::RowIds ids) {
  std::vector<std::thread> workers;
  for (int t = 0; t < threads_; ++t)
    workers.emplace_back([this, t, base, ids] {
      if (t >= std::ssize(seen_)) return;
      visit_float_blocks(base, {0, base.rows}, [&](MatrixView<const float> rows, std::int64_t first_row) {
        for (std::int64_t q = t; q < std::ssize(seen_); q += threads_) observe_block(q, rows, ids, first_row);
      });
    });
  for (std::thread& worker : workers) worker.join();
}

void RangeChecker::compare(const comm::Communicator& comm, const io::CsrSource& written,
                           SelfCheck& total) const {
  for (std::size_t q = 0; q < seen_.size(); ++q) {
    const std::vector<Entry>& mine = seen_[q];
    const std::string_view bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(Entry));
    const std::vector<std::string> parts = comm.gather_texts(bytes);
    comm::agree(comm, [&] {
      if (!comm.is_root()) return;
      std::vector<Entry> truth;
      for (const std::string& part : parts) {
        const std::size_t before = truth.size();
        truth.resize(before + part.size() / sizeof(Entry));
        if (!part.empty()) std::memcpy(truth.data() + before, part.data(), part.size());
      }
      const io::CsrRows row = written.read_rows(result_rows_[q], result_rows_[q] + 1);
      compare_query(result_rows_[q], std::move(truth), row.row(0), total);
    });
  }
}

void RangeChecker::compare_query(std::int64_t result_row, std::vector<Entry> truth, ConstNeighborRow found,
                                 SelfCheck& total) const {
  ++total.queries;
  const std::int64_t before = total.id_mismatches + total.distance_mismatches;
  // Ids of the file's own may repeat: equal ones are told apart by their distance.
  std::ranges::sort(truth, [](const Entry& a, const Entry& b) {
    return a.id != b.id ? a.id < b.id : a.distance < b.distance;
  });
  std::vector<char> is_found(truth.size(), 0);
  const Closer closer(metric_);
  for (std::size_t place = 0; place < found.neighbors.size(); ++place) {
    const GlobalId id = found.neighbors[place];
    const float distance = found.distances[place];
    if (place > 0 && !closer(found.neighbors[place - 1], found.distances[place - 1], id, distance) &&
        (found.neighbors[place - 1] != id || found.distances[place - 1] != distance))
      ++total.id_mismatches;
    const auto candidates = std::ranges::equal_range(truth, id, {}, &Entry::id);
    auto match = candidates.begin();
    while (match != candidates.end() && (is_found[static_cast<std::size_t>(match - truth.begin())] != 0 ||
                                         !within_one_ulp(distance, static_cast<float>(match->distance))))
      ++match;
    if (match == candidates.end()) {
      ++(candidates.empty() ? total.id_mismatches : total.distance_mismatches);
      continue;
    }
    is_found[static_cast<std::size_t>(match - truth.begin())] = 1;
    const double error = std::abs(static_cast<double>(distance) - match->distance) /
                         std::max(std::abs(match->distance), 1e-300);
    if (std::isfinite(error)) total.max_relative_error = std::max(total.max_relative_error, error);
  }
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const auto rounded = static_cast<float>(truth[i].distance);
    const bool may_be_missing = within_one_ulp(rounded, range_.eps);
    if (is_found[i] == 0 && is_within(rounded) && !may_be_missing) ++total.id_mismatches;
  }
  if (total.id_mismatches + total.distance_mismatches > before && total.first_bad_query < 0)
    total.first_bad_query = result_row;
}

}  // namespace mpishards::rank

#include "rank/self_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "rank/float_blocks.hpp"
#include "rank/plain_distance.hpp"

namespace mpishards::rank {

namespace {

constexpr std::uint64_t kSeed = 20240607;
/// Entries kept beyond k, so that a neighbor that the search ranked just inside can be looked up just
/// outside.
constexpr std::int64_t kSpare = 8;
/// Doubles summed in another order differ by less than this, relative to the larger.
constexpr double kDoubleSlack = 1e-12;

}  // namespace

std::vector<std::int64_t> SelfChecker::choose(std::int64_t nq, std::int64_t count) {
  std::mt19937_64 random(kSeed);
  std::set<std::int64_t> rows;
  count = std::min(count, nq);
  while (static_cast<std::int64_t>(rows.size()) < count)
    rows.insert(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(nq)));
  return {rows.begin(), rows.end()};
}

void SelfChecker::begin(Matrix queries, std::vector<std::int64_t> result_rows, std::vector<GlobalId> selves,
                        ProbeTable probes) {
  probes_ = std::move(probes);
  queries_ = std::move(queries);
  result_rows_ = std::move(result_rows);
  selves_ = std::move(selves);
  best_.assign(result_rows_.size(), {});
}

bool SelfChecker::before(const Entry& a, const Entry& b) const {
  const auto da = static_cast<float>(a.distance);
  const auto db = static_cast<float>(b.distance);
  if (da != db) return smaller_is_better(metric_) ? da < db : da > db;
  return a.id < b.id;
}

void SelfChecker::keep_best(std::vector<Entry>& entries) const {
  const auto order = [this](const Entry& a, const Entry& b) { return before(a, b); };
  const auto kept = std::min<std::ptrdiff_t>(k_ + kSpare, std::ssize(entries));
  std::partial_sort(entries.begin(), entries.begin() + kept, entries.end(), order);
  entries.resize(static_cast<std::size_t>(kept));
}

void SelfChecker::observe_block(std::int64_t query, MatrixView<const float> rows, const kernels::RowIds& ids,
                                std::int64_t first_row) {
  std::vector<Entry>& entries = best_[static_cast<std::size_t>(query)];
  const auto limit = static_cast<std::size_t>(4 * (k_ + kSpare) + 4096);
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const GlobalId id = ids[first_row + r];
    if (!selves_.empty() && id == selves_[static_cast<std::size_t>(query)]) continue;
    entries.push_back({distance_of(metric_, queries_.as<float>().row(query), rows.row(r), rows.cols), id});
    if (entries.size() >= limit) keep_best(entries);
  }
}

void SelfChecker::observe_rows(std::span<const std::int64_t> queries, TypedView base,
                               const kernels::RowIds& ids, io::Range rows) {
  visit_float_blocks(base, rows, [&](MatrixView<const float> block, std::int64_t first_row) {
    for (const std::int64_t query : queries) observe_block(query, block, ids, first_row);
  });
  for (const std::int64_t query : queries) keep_best(best_[static_cast<std::size_t>(query)]);
}

void SelfChecker::observe_lists(std::span<const std::int64_t> queries, TypedView base,
                                const kernels::RowIds& ids, const kernels::RowLists& lists) {
  std::vector<std::int64_t> looking;
  for (std::int64_t list = 0; list < lists.count(); ++list) {
    looking.clear();
    std::ranges::copy_if(queries, std::back_inserter(looking), [&](std::int64_t query) {
      const std::span<const std::int32_t> probed = probes_.row(query);
      return std::ranges::find(probed, lists.first_list + list) != probed.end();
    });
    if (looking.empty()) continue;
    observe_rows(
        looking, base, ids,
        {lists.starts[static_cast<std::size_t>(list)], lists.starts[static_cast<std::size_t>(list) + 1]});
  }
}

void SelfChecker::observe(TypedView base, kernels::RowIds ids, kernels::RowLists lists) {
  std::vector<std::thread> workers;
  for (int t = 0; t < threads_; ++t)
    workers.emplace_back([this, t, base, ids, lists] {
      std::vector<std::int64_t> queries;
      for (std::int64_t q = t; q < std::ssize(best_); q += threads_) queries.push_back(q);
      if (queries.empty()) return;
      if (probes_.nprobe == 0)
        observe_rows(queries, base, ids, {0, base.rows});
      else
        observe_lists(queries, base, ids, lists);
    });
  for (std::thread& worker : workers) worker.join();
}

void SelfChecker::observe_candidates(std::int64_t result_row, TypedView rows, std::span<const GlobalId> ids) {
  for (std::int64_t q = 0; q < std::ssize(result_rows_); ++q)
    if (result_rows_[static_cast<std::size_t>(q)] == result_row)
      observe_rows({&q, 1}, rows, {0, ids}, {0, rows.rows});
}

void SelfChecker::compare(const comm::Communicator& comm, const io::ResultSlices& written, SelfCheck& total) {
  for (std::size_t q = 0; q < best_.size(); ++q) {
    const std::vector<Entry>& mine = best_[q];
    const std::string_view bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(Entry));
    const std::vector<std::string> parts = comm.gather_texts(bytes);
    if (!comm.is_root()) continue;
    std::vector<Entry> truth;
    for (const std::string& part : parts) {
      const std::size_t before = truth.size();
      truth.resize(before + part.size() / sizeof(Entry));
      std::memcpy(truth.data() + before, part.data(), part.size());
    }
    keep_best(truth);
    compare_query(result_rows_[q], truth, written.read(result_rows_[q], 1, metric_), total);
  }
}

void SelfChecker::compare_query(std::int64_t result_row, const std::vector<Entry>& truth, const TopK& found,
                                SelfCheck& total) const {
  ++total.queries;
  bool bad = false;
  for (std::int64_t place = 0; place < k_; ++place) {
    const GlobalId id = found.neighbors()[place];
    const float distance = found.distances()[place];
    if (place >= std::ssize(truth)) {
      if (id != kNoNeighbor || distance != worst_distance(metric_)) {
        ++total.id_mismatches;
        bad = true;
      }
      continue;
    }
    const Entry& expected = truth[static_cast<std::size_t>(place)];
    const auto same_id = std::ranges::find(truth, id, &Entry::id);
    // Two rows may change places only where their doubles are one value up to the order of summation.
    const bool known =
        same_id != truth.end() && std::abs(same_id->distance - expected.distance) <=
                                      kDoubleSlack * std::max(std::abs(expected.distance), 1e-300);
    if (id != expected.id && !known) {
      ++total.id_mismatches;
      bad = true;
    }
    if (!within_one_ulp(distance, static_cast<float>(expected.distance))) {
      ++total.distance_mismatches;
      bad = true;
    }
    const double scale = std::max(std::abs(expected.distance), 1e-300);
    const double error = std::abs(static_cast<double>(distance) - expected.distance) / scale;
    if (std::isfinite(error)) total.max_relative_error = std::max(total.max_relative_error, error);
  }
  if (bad && total.first_bad_query < 0) total.first_bad_query = result_row;
}

ProbeTable plain_probes(Metric metric, const Matrix& centroids, MatrixView<const float> queries,
                        std::int64_t nprobe) {
  const Metric by = probing_metric(metric);
  const MatrixView<const float> rows = centroids.view().as<float>();
  ProbeTable probes{nprobe, {}};
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    std::vector<std::pair<float, std::int32_t>> order;
    for (std::int64_t list = 0; list < rows.rows; ++list) {
      const auto distance = static_cast<float>(distance_of(by, queries.row(q), rows.row(list), rows.cols));
      order.emplace_back(smaller_is_better(by) ? distance : -distance, static_cast<std::int32_t>(list));
    }
    std::ranges::sort(order);
    for (std::int64_t place = 0; place < nprobe; ++place)
      probes.lists.push_back(order[static_cast<std::size_t>(place)].second);
  }
  return probes;
}

}  // namespace mpishards::rank

#include "merge/multiway.hpp"

#include <algorithm>

namespace mpishards::merge {

MultiwayMerge::MultiwayMerge(std::int64_t n_records, std::int64_t k, Closer closer)
    : k_(k),
      closer_(closer),
      heads_(static_cast<std::size_t>(n_records)),
      positions_(heads_.size()),
      losers_(heads_.size()),
      winners_(2 * heads_.size()) {}

std::size_t MultiwayMerge::play_all() {
  const std::size_t n = heads_.size();
  for (std::size_t r = 0; r < n; ++r) winners_[n + r] = r;
  for (std::size_t node = n - 1; node >= 1; --node) {
    const std::size_t left = winners_[2 * node];
    const std::size_t right = winners_[2 * node + 1];
    const bool right_wins = before(right, left);
    winners_[node] = right_wins ? right : left;
    losers_[node] = right_wins ? left : right;
  }
  return winners_[1];
}

std::size_t MultiwayMerge::replay(std::size_t changed) {
  std::size_t winner = changed;
  for (std::size_t node = (heads_.size() + changed) / 2; node >= 1; node /= 2)
    if (before(losers_[node], winner)) std::swap(losers_[node], winner);
  return winner;
}

void MultiwayMerge::merge(std::span<const std::byte* const> records, NeighborRow out) {
  for (std::size_t r = 0; r < heads_.size(); ++r) heads_[r] = entry_of(records[r], k_, 0);
  std::ranges::fill(positions_, 0);
  std::size_t winner = play_all();
  for (std::int64_t o = 0; o < k_; ++o) {
    if (heads_[winner].id == kNoNeighbor) return;  // all that is left is padding, and so is out
    out.neighbors[static_cast<std::size_t>(o)] = heads_[winner].id;
    out.distances[static_cast<std::size_t>(o)] = heads_[winner].distance;
    if (o + 1 == k_) return;  // before the record of k entries can run out
    heads_[winner] = entry_of(records[winner], k_, ++positions_[winner]);
    winner = replay(winner);
  }
}

void merge_runs(const std::byte* in, std::int64_t n_parts, std::int64_t count, TopK& out) {
  const std::size_t record = record_bytes(out.k());
  MultiwayMerge multiway(n_parts, out.k(), Closer(out.metric()));
  std::vector<const std::byte*> records(static_cast<std::size_t>(n_parts));
  for (std::int64_t q = 0; q < count; ++q) {
    for (std::int64_t p = 0; p < n_parts; ++p)
      records[static_cast<std::size_t>(p)] = in + static_cast<std::size_t>(p * count + q) * record;
    multiway.merge(records, out.row(q));
  }
}

}  // namespace mpishards::merge

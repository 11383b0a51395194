#include "rank/shard_map.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.hpp"

namespace mpishards::rank {

ShardMap::ShardMap(io::Range rows, int n_ranks, const std::vector<double>& weights) : begin_(rows.begin) {
  if (n_ranks < 1 || (!weights.empty() && weights.size() != static_cast<std::size_t>(n_ranks)))
    throw Error(ErrorKind::internal, "ShardMap: one weight a rank is needed");
  const std::int64_t count = rows.end - rows.begin;
  if (weights.empty()) {
    const std::int64_t share = count / n_ranks;
    const std::int64_t longer = count % n_ranks;  // the first ranks take one row more
    for (std::int64_t r = 0; r < n_ranks; ++r)
      ends_.push_back(rows.begin + (r + 1) * share + std::min(r + 1, longer));
    return;
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  std::int64_t end = rows.begin;
  for (const double weight : weights) {
    if (!(weight > 0)) throw Error(ErrorKind::internal, "ShardMap: weights must be positive");
    sum += weight;
    const auto ideal = static_cast<std::int64_t>(std::llround(static_cast<double>(count) * (sum / total)));
    end = std::clamp(rows.begin + ideal, end, rows.end);
    ends_.push_back(end);
  }
  ends_.back() = rows.end;
}

io::Range ShardMap::shard(int rank) const {
  const auto r = static_cast<std::size_t>(rank);
  return {r == 0 ? begin_ : ends_[r - 1], ends_[r]};
}

int ShardMap::rank_of(std::int64_t row) const {
  return static_cast<int>(std::ranges::upper_bound(ends_, row) - ends_.begin());
}

}  // namespace mpishards::rank

#include "rank/recall_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>

#include "comm/agree.hpp"
#include "merge/merge_strategy.hpp"

namespace mpishards::rank {

namespace {

/// Lists in order of distance are kept for so many queries at once.
constexpr std::int64_t kQueriesAtOnce = 32;

double share_within(std::span<const std::int64_t> depths, std::int64_t nprobe) {
  const auto found = std::ranges::count_if(depths, [nprobe](std::int64_t depth) { return depth <= nprobe; });
  return static_cast<double>(found) / static_cast<double>(depths.size());
}

}  // namespace

std::pair<double, double> wilson_interval(double share, std::int64_t n) {
  constexpr double kZ = 1.959963984540054;  // of the normal distribution at 97.5 %
  const auto trials = static_cast<double>(n);
  const double z2 = kZ * kZ / trials;
  const double middle = (share + z2 / 2) / (1 + z2);
  const double half = kZ / (1 + z2) * std::sqrt(share * (1 - share) / trials + z2 / (4 * trials));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

RecallEstimate ProbeDepths::recall(std::int64_t nprobe) const {
  double sum = 0;
  for (const std::vector<std::int64_t>& depths : depths_) sum += share_within(depths, nprobe);
  RecallEstimate estimate{nprobe, queries(), sum / static_cast<double>(queries())};
  std::tie(estimate.low, estimate.high) = wilson_interval(estimate.recall, estimate.queries);
  return estimate;
}

std::int64_t ProbeDepths::nprobe_for(double wanted) const {
  std::int64_t enough = 1;
  for (const std::vector<std::int64_t>& depths : depths_)
    enough = std::max(enough, *std::ranges::max_element(depths));
  for (std::int64_t too_few = 0; enough - too_few > 1;) {
    const std::int64_t tried = too_few + (enough - too_few) / 2;
    (recall(tried).recall >= wanted ? enough : too_few) = tried;
  }
  return enough;
}

RecallSample::RecallSample(Matrix queries, std::int64_t k, Metric metric, const comm::Communicator& comm)
    : queries_(std::move(queries)),
      nearest_(merge::slice_of(queries_.rows(), comm.rank(), comm.size()).size(), k, metric),
      comm_(comm) {}

void RecallSample::observe(SearchEngine& engine) {
  merge_into(nearest_, engine.search_all_lists(queries_.view().as<float>(), nearest_.k()));
}

std::vector<std::vector<std::int64_t>> RecallSample::depths(SearchEngine& engine,
                                                            const InvertedLists& lists) const {
  const std::int64_t k = nearest_.k();
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < comm_.size(); ++rank)
    counts.push_back(merge::slice_of(queries_.rows(), rank, comm_.size()).size() * k);
  std::vector<GlobalId> places(comm_.is_root() ? static_cast<std::size_t>(queries_.rows() * k) : 0);
  comm_.gather_records<GlobalId>({nearest_.neighbors(), static_cast<std::size_t>(nearest_.nq() * k)}, counts,
                                 places);
  std::vector<std::vector<std::int64_t>> depths;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    for (std::int64_t begin = 0; begin < queries_.rows(); begin += kQueriesAtOnce) {
      const std::int64_t end = std::min(queries_.rows(), begin + kQueriesAtOnce);
      const ProbeTable order = engine.probe(queries_.view().as<float>().slice(begin, end), lists.count());
      for (std::int64_t q = begin; q < end; ++q) {
        const std::span<const std::int32_t> nearest_lists = order.row(q - begin);
        std::vector<std::int64_t> depth_of(static_cast<std::size_t>(lists.count()));
        for (std::size_t place = 0; place < nearest_lists.size(); ++place)
          depth_of[static_cast<std::size_t>(nearest_lists[place])] = static_cast<std::int64_t>(place) + 1;
        std::vector<std::int64_t>& of_query = depths.emplace_back();
        for (std::int64_t n = q * k; n < (q + 1) * k; ++n)
          if (const GlobalId row = places[static_cast<std::size_t>(n)]; row != kNoNeighbor)
            of_query.push_back(depth_of[static_cast<std::size_t>(lists.list_of(row))]);
      }
    }
  });
  return depths;
}

}  // namespace mpishards::rank

#include <string>

#include "core/error.hpp"
#include "merge/merge_strategy.hpp"
#include "merge/strategies.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

namespace {

constexpr MergeRow kStrategies[] = {
    {"all_to_all", make_all_to_all_merge,
     "one exchange, each rank merges its own queries; up to some 64 ranks"},
    {"halving", make_halving_merge, "log2(ranks) exchanges with one partner; many ranks or few queries"},
    {"reduce", make_reduce_merge, "MPI_Reduce_scatter with an operation of our own; the library's tree"},
    {"two_level", make_two_level_merge,
     "inside each host first, then across; many ranks on each of many hosts"},
    {"gather", make_gather_merge, "rank 0 merges alone; the reference, or a few queries"},
};

/// Chooses anew for every batch, by its size.
class AutoMerge final : public MergeStrategy {
 public:
  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    return make_merge(choose_merge(comm.size(), local.nq(), local.k()))->merge(local, comm);
  }
};

}  // namespace

std::span<const MergeRow> merge_registry() {
  return kStrategies;
}

std::unique_ptr<MergeStrategy> make_merge(std::string_view name) {
  if (name == "auto") return std::make_unique<AutoMerge>();
  std::string known = "auto";
  for (const MergeRow& row : kStrategies) {
    if (row.name == name) return row.make();
    known += ", " + std::string(row.name);
  }
  throw Error(ErrorKind::usage, "unknown merge strategy '" + std::string(name) + "'; known: " + known);
}

std::string_view choose_merge(int n_ranks, std::int64_t nq, std::int64_t k) {
  // Volumes are alike; what differs is the number of messages, P - 1 against log2(P). It counts where there
  // are many ranks, or where messages are so short that each costs its latency alone.
  constexpr int kManyRanks = 64;
  constexpr int kFewRanks = 8;
  constexpr std::size_t kShortMessageBytes = 1024;
  if (n_ranks == 1) return "gather";
  if (n_ranks >= kManyRanks) return "halving";
  if (n_ranks <= kFewRanks) return nq < n_ranks ? "gather" : "all_to_all";
  const std::int64_t largest_slice = (nq + n_ranks - 1) / n_ranks;
  const bool short_messages = static_cast<std::size_t>(largest_slice) * record_bytes(k) < kShortMessageBytes;
  return short_messages ? "halving" : "all_to_all";
}

}  // namespace mpishards::merge

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"
#include "merge/multiway.hpp"
#include "merge/strategies.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

namespace {

constexpr int kTagInHost = 1206;
constexpr int kTagBetweenHosts = 1207;

/// Who merges what inside a host. Slices have the number of the rank that owns them at the end.
class HostLayout {
 public:
  /// @param host_of_rank  numbers from 0 on, each host's at least once
  explicit HostLayout(std::span<const int> host_of_rank)
      : host_of_rank_(host_of_rank.begin(), host_of_rank.end()),
        ranks_(static_cast<std::size_t>(*std::ranges::max_element(host_of_rank)) + 1),
        mergers_(ranks_.size()) {
    for (std::size_t rank = 0; rank < host_of_rank_.size(); ++rank)
      ranks_[static_cast<std::size_t>(host_of_rank_[rank])].push_back(narrow<int>(rank));
    for (int host = 0; host < hosts(); ++host) {
      std::size_t turn = 0;
      for (std::size_t slice = 0; slice < host_of_rank_.size(); ++slice)
        mergers_[static_cast<std::size_t>(host)].push_back(
            host_of_rank_[slice] == host ? narrow<int>(slice) : ranks(host)[turn++ % ranks(host).size()]);
    }
  }

  int hosts() const { return narrow<int>(ranks_.size()); }
  int host_of(int rank) const { return host_of_rank_[static_cast<std::size_t>(rank)]; }
  std::span<const int> ranks(int host) const { return ranks_[static_cast<std::size_t>(host)]; }

  /// The rank of a host that merges the host's answers to a slice: its owner if that is one of them, else
  /// they take turns.
  int merger(int host, int slice) const {
    return mergers_[static_cast<std::size_t>(host)][static_cast<std::size_t>(slice)];
  }

  /// What a rank merges for its host, in order.
  std::vector<int> slices_merged_by(int rank) const {
    std::vector<int> slices;
    for (int slice = 0; slice < narrow<int>(host_of_rank_.size()); ++slice)
      if (merger(host_of(rank), slice) == rank) slices.push_back(slice);
    return slices;
  }

 private:
  std::vector<int> host_of_rank_;
  std::vector<std::vector<int>> ranks_;    // by host
  std::vector<std::vector<int>> mergers_;  // by host and slice
};

/// Messages of records that are under way; their memory must stay until wait() is through.
class Messages {
 public:
  Messages(const comm::Communicator& comm, std::size_t record, int tag)
      : comm_(comm), type_(comm::Datatype::bytes(record)), tag_(tag) {}

  void send(const std::byte* records, std::int64_t count, int to) {
    if (count == 0) return;
    comm::check_mpi(
        MPI_Isend(records, narrow<int>(count), type_.get(), to, tag_, comm_.get(), &requests_.emplace_back()),
        "MPI_Isend");
  }
  void receive(std::byte* records, std::int64_t count, int from) {
    if (count == 0) return;
    comm::check_mpi(MPI_Irecv(records, narrow<int>(count), type_.get(), from, tag_, comm_.get(),
                              &requests_.emplace_back()),
                    "MPI_Irecv");
  }
  void wait() {
    comm::check_mpi(MPI_Waitall(narrow<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE),
                    "MPI_Waitall");
  }

 private:
  const comm::Communicator& comm_;
  comm::Datatype type_;
  int tag_;
  std::vector<MPI_Request> requests_;
};

/// One rank's part in a merge on two levels.
class TwoLevels {
 public:
  TwoLevels(const TopK& local, const comm::Communicator& comm, const HostLayout& layout)
      : local_(local), comm_(comm), layout_(layout), record_(record_bytes(local.k())) {}

  /// The answers of this rank's host to the slices that it merges, one slice behind the other.
  TopK merge_in_host() const {
    const std::span<const int> ranks = layout_.ranks(layout_.host_of(comm_.rank()));
    const std::int64_t count = queries_in(layout_.slices_merged_by(comm_.rank()));
    std::vector<std::byte> received(ranks.size() * bytes(count));
    std::vector<std::vector<std::byte>> sent(ranks.size());
    Messages messages(comm_, record_, kTagInHost);
    for (std::size_t place = 0; place < ranks.size(); ++place) {
      std::byte* const run = received.data() + place * bytes(count);
      const std::vector<int> slices = layout_.slices_merged_by(ranks[place]);
      if (ranks[place] == comm_.rank()) {
        pack_slices(slices, run);
        continue;
      }
      messages.receive(run, count, ranks[place]);
      sent[place].resize(bytes(queries_in(slices)));
      pack_slices(slices, sent[place].data());
      messages.send(sent[place].data(), queries_in(slices), ranks[place]);
    }
    messages.wait();
    TopK merged(count, local_.k(), local_.metric());
    merge_runs(received.data(), narrow<std::int64_t>(ranks.size()), count, merged);
    return merged;
  }

  /// Takes every host's answers to this rank's slice. @param of_host  by merge_in_host()
  TopK merge_between_hosts(const TopK& of_host) const {
    const std::int64_t mine = slice(comm_.rank()).size();
    std::vector<std::byte> sent(bytes(of_host.nq()));
    pack(of_host, 0, of_host.nq(), sent.data());
    std::vector<std::byte> received(static_cast<std::size_t>(layout_.hosts()) * bytes(mine));
    Messages messages(comm_, record_, kTagBetweenHosts);
    for (int host = 0; host < layout_.hosts(); ++host)
      if (const int from = layout_.merger(host, comm_.rank()); from != comm_.rank())
        messages.receive(received.data() + static_cast<std::size_t>(host) * bytes(mine), mine, from);
    const std::byte* next = sent.data();
    for (const int owner : layout_.slices_merged_by(comm_.rank())) {
      const std::int64_t count = slice(owner).size();
      if (owner == comm_.rank())
        std::copy_n(next, bytes(count),
                    received.data() + static_cast<std::size_t>(layout_.host_of(comm_.rank())) * bytes(count));
      else
        messages.send(next, count, owner);
      next += bytes(count);
    }
    messages.wait();
    TopK merged(mine, local_.k(), local_.metric());
    merge_runs(received.data(), layout_.hosts(), mine, merged);
    return merged;
  }

 private:
  Slice slice(int owner) const { return slice_of(local_.nq(), owner, comm_.size()); }
  std::size_t bytes(std::int64_t queries) const { return static_cast<std::size_t>(queries) * record_; }
  std::int64_t queries_in(const std::vector<int>& slices) const {
    return std::transform_reduce(slices.begin(), slices.end(), std::int64_t{0}, std::plus<>(),
                                 [this](int owner) { return slice(owner).size(); });
  }
  void pack_slices(const std::vector<int>& slices, std::byte* out) const {
    for (const int owner : slices) {
      pack(local_, slice(owner).begin, slice(owner).end, out);
      out += bytes(slice(owner).size());
    }
  }

  const TopK& local_;
  const comm::Communicator& comm_;
  const HostLayout& layout_;
  std::size_t record_;
};

/// First the ranks of a host merge among each other, each the slices of some ranks; then one message a host
/// and slice brings them to the owners, who merge as many lists as there are hosts.
///
/// Exact: every partial answer goes to the one merger of its host and slice, every host's to the slice's
/// owner, and the k first of the k first of parts are those of all, in the total order. Cost, for P ranks on
/// H hosts: a rank sends nq (1 - H/P) records of 12 k bytes in P/H - 1 messages inside its host, and nq H/P
/// records in P H/P messages to others: over the network go H/P of what all_to_all sends, in H/P of its
/// messages. Comparisons: about nq k (log2(P/H) + H/P log2(H)). Holds up to three
/// buffers of nq records.
class TwoLevelMerge final : public MergeStrategy {
 public:
  explicit TwoLevelMerge(std::vector<int> host_of_rank) : host_of_rank_(std::move(host_of_rank)) {}

  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    if (comm.size() == 1) return local;
    const HostLayout layout(host_of_rank_.empty() ? std::span(comm.host_of_each_rank()) : host_of_rank_);
    const TwoLevels levels(local, comm, layout);
    return levels.merge_between_hosts(levels.merge_in_host());
  }

 private:
  std::vector<int> host_of_rank_;
};

}  // namespace

std::unique_ptr<MergeStrategy> make_two_level_merge() {
  return make_two_level_merge({});
}

std::unique_ptr<MergeStrategy> make_two_level_merge(std::vector<int> host_of_rank) {
  return std::make_unique<TwoLevelMerge>(std::move(host_of_rank));
}

}  // namespace mpishards::merge

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/error.hpp"
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
  /// @pre hosts are numbered from 0 on without gaps @throws Error{internal} for a rank or a host too few
  HostLayout(std::span<const int> host_of_rank, int n_ranks)
      : host_of_rank_(host_of_rank.begin(), host_of_rank.end()) {
    if (std::ssize(host_of_rank) != n_ranks)
      throw Error(ErrorKind::internal, "two_level: one host a rank is needed");
    ranks_.resize(static_cast<std::size_t>(*std::ranges::max_element(host_of_rank)) + 1);
    for (int rank = 0; rank < n_ranks; ++rank)
      ranks_[static_cast<std::size_t>(host_of(rank))].push_back(rank);
    if (std::ranges::any_of(ranks_, &std::vector<int>::empty))
      throw Error(ErrorKind::internal, "two_level: a host without ranks");
  }

  int hosts() const { return narrow<int>(ranks_.size()); }
  int n_ranks() const { return narrow<int>(host_of_rank_.size()); }
  int host_of(int rank) const { return host_of_rank_[static_cast<std::size_t>(rank)]; }
  std::span<const int> ranks(int host) const { return ranks_[static_cast<std::size_t>(host)]; }

  /// The rank of a host that merges the host's answers to a slice: its owner if that is one of them, else
  /// they take turns.
  int merger(int host, int slice) const {
    if (host_of(slice) == host) return slice;
    const std::span<const int> own = ranks(host);
    const auto own_below = std::ranges::lower_bound(own, slice) - own.begin();
    return own[static_cast<std::size_t>(slice - own_below) % own.size()];
  }

  /// What a rank merges for its host, in order.
  std::vector<int> slices_merged_by(int rank) const {
    std::vector<int> slices;
    for (int slice = 0; slice < n_ranks(); ++slice)
      if (merger(host_of(rank), slice) == rank) slices.push_back(slice);
    return slices;
  }

 private:
  std::vector<int> host_of_rank_;
  std::vector<std::vector<int>> ranks_;  // by host, ascending
};

/// Messages of whole records that are under way; their memory must stay until wait() is through.
class Messages {
 public:
  /// @param most  messages that will be on their way at once
  Messages(const comm::Communicator& comm, std::size_t record, int tag, std::size_t most)
      : comm_(comm), record_(record), type_(comm::Datatype::bytes(record)), tag_(tag) {
    requests_.reserve(most);
  }

  void send(const std::byte* records, std::size_t bytes, int to) {
    if (bytes == 0) return;
    comm::check_mpi(MPI_Isend(records, narrow<int>(bytes / record_), type_.get(), to, tag_, comm_.get(),
                              &requests_.emplace_back()),
                    "MPI_Isend");
  }
  void receive(std::byte* records, std::size_t bytes, int from) {
    if (bytes == 0) return;
    comm::check_mpi(MPI_Irecv(records, narrow<int>(bytes / record_), type_.get(), from, tag_, comm_.get(),
                              &requests_.emplace_back()),
                    "MPI_Irecv");
  }
  void wait() {
    comm::check_mpi(MPI_Waitall(narrow<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE),
                    "MPI_Waitall");
  }

 private:
  const comm::Communicator& comm_;
  std::size_t record_;
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
    // All memory first: what messages are under way to must stay.
    std::vector<std::byte> received(ranks.size() * bytes(count));
    std::vector<std::vector<std::byte>> sent(ranks.size());
    for (std::size_t place = 0; place < ranks.size(); ++place) {
      const std::vector<int> slices = layout_.slices_merged_by(ranks[place]);
      if (ranks[place] != comm_.rank()) sent[place].resize(bytes(queries_in(slices)));
      pack_slices(slices,
                  ranks[place] == comm_.rank() ? received.data() + place * bytes(count) : sent[place].data());
    }
    Messages messages(comm_, record_, kTagInHost, 2 * ranks.size());
    for (std::size_t place = 0; place < ranks.size(); ++place) {
      if (ranks[place] == comm_.rank()) continue;
      messages.receive(received.data() + place * bytes(count), bytes(count), ranks[place]);
      messages.send(sent[place].data(), sent[place].size(), ranks[place]);
    }
    messages.wait();
    sent = {};
    TopK merged(count, local_.k(), local_.metric());
    merge_runs(received.data(), narrow<std::int64_t>(ranks.size()), count, merged);
    return merged;
  }

  /// Takes every host's answers to this rank's slice. @param of_host  by merge_in_host()
  TopK merge_between_hosts(TopK of_host) const {
    const std::int64_t mine = slice(comm_.rank()).size();
    std::vector<std::byte> sent(bytes(of_host.nq()));
    pack(of_host, 0, of_host.nq(), sent.data());
    of_host = TopK(0, local_.k(), local_.metric());
    std::vector<std::byte> received(static_cast<std::size_t>(layout_.hosts()) * bytes(mine));
    const std::vector<int> owners = layout_.slices_merged_by(comm_.rank());
    Messages messages(comm_, record_, kTagBetweenHosts,
                      static_cast<std::size_t>(layout_.hosts()) + owners.size());
    for (int host = 0; host < layout_.hosts(); ++host)
      if (const int from = layout_.merger(host, comm_.rank()); from != comm_.rank())
        messages.receive(received.data() + static_cast<std::size_t>(host) * bytes(mine), bytes(mine), from);
    const std::byte* next = sent.data();
    for (const int owner : owners) {
      const std::size_t size = bytes(slice(owner).size());
      if (owner == comm_.rank())
        std::copy_n(next, size,
                    received.data() + static_cast<std::size_t>(layout_.host_of(owner)) * bytes(mine));
      else
        messages.send(next, size, owner);
      next += size;
    }
    messages.wait();
    sent = {};
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
/// and slice brings them to the owners, who merge as many lists as there are hosts. On one host, or with one
/// rank on each, there is one level: all_to_all.
///
/// Exact: every partial answer goes to the one merger of its host and slice, every host's to the slice's
/// owner, and the k first of the k first of parts are those of all, in the total order. Cost, for P ranks on
/// H hosts of as many ranks each: a rank sends nq (1 - H/P) records of 12 k bytes in P/H - 1 messages inside
/// its host, and nq (H - 1)/P records in H - 1 messages to other hosts: over the network goes H/P of what
/// all_to_all sends there, in H/P of its messages. Comparisons: about nq k (H log2(P/H) + log2(H)) / P. Holds
/// up to three buffers of nq records.
class TwoLevelMerge final : public MergeStrategy {
 public:
  explicit TwoLevelMerge(std::vector<int> host_of_rank) : host_of_rank_(std::move(host_of_rank)) {}

  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    const HostLayout layout(host_of_rank_.empty() ? std::span(comm.host_of_each_rank()) : host_of_rank_,
                            comm.size());
    if (layout.hosts() == 1 || layout.hosts() == comm.size())
      return make_all_to_all_merge()->merge(local, comm);
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

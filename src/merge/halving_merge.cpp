#include <algorithm>
#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"
#include "merge/strategies.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

namespace {

constexpr int kTag = 1205;

/// Ranks [begin, end), who together own the queries of their slices.
struct Group {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
};

/// One rank's part in a merge by halving: its records of the queries that its group still owns.
class Halving {
 public:
  Halving(const TopK& local, const comm::Communicator& comm)
      : comm_(comm),
        nq_(local.nq()),
        k_(local.k()),
        closer_(local.metric()),
        type_(comm::Datatype::bytes(record_bytes(k_))),
        records_(static_cast<std::size_t>(nq_) * record_bytes(k_)),
        scratch_(record_bytes(k_)) {
    pack(local, 0, nq_, records_.data());
  }

  /// Splits the group until this rank is alone in it.
  void run() {
    Group group{0, comm_.size()};
    while (group.size() > 1) {
      const int middle = group.begin + (group.size() + 1) / 2;
      const Group lower{group.begin, middle};
      const Group upper{middle, group.end};
      if (comm_.rank() < middle)
        group = step_in_lower(lower, upper);
      else
        group = step_in_upper(lower, upper);
    }
  }

  TopK slice(Metric metric) const {
    const Slice mine = slice_of(nq_, comm_.rank(), comm_.size());
    TopK result(mine.size(), k_, metric);
    unpack(at(mine.begin), mine.size(), 0, result);
    return result;
  }

 private:
  Slice queries_of(Group group) const {
    return {slice_of(nq_, group.begin, comm_.size()).begin, slice_of(nq_, group.end - 1, comm_.size()).end};
  }
  const std::byte* at(std::int64_t q) const {
    return records_.data() + static_cast<std::size_t>(q) * record_bytes(k_);
  }

  // The lower half is as long as the upper or one longer. Equal places exchange; a rank of the lower half
  // without a counterpart gives its share of the upper's queries to the last of the upper half and gets
  // nothing.
  Group step_in_lower(Group lower, Group upper) {
    const int place = comm_.rank() - lower.begin;
    if (place < upper.size()) {
      exchange(upper.begin + place, queries_of(upper), queries_of(lower));
    } else {
      const Slice given = queries_of(upper);
      comm::check_mpi(
          MPI_Send(at(given.begin), narrow<int>(given.size()), type_.get(), upper.end - 1, kTag, comm_.get()),
          "MPI_Send");
    }
    return lower;
  }

  Group step_in_upper(Group lower, Group upper) {
    exchange(lower.begin + comm_.rank() - upper.begin, queries_of(lower), queries_of(upper));
    if (lower.size() > upper.size() && comm_.rank() == upper.end - 1) {
      const Slice kept = queries_of(upper);
      received_.resize(static_cast<std::size_t>(kept.size()) * record_bytes(k_));
      comm::check_mpi(MPI_Recv(received_.data(), narrow<int>(kept.size()), type_.get(), lower.end - 1, kTag,
                               comm_.get(), MPI_STATUS_IGNORE),
                      "MPI_Recv");
      merge_received(kept);
    }
    return upper;
  }

  void exchange(int partner, Slice given, Slice kept) {
    received_.resize(static_cast<std::size_t>(kept.size()) * record_bytes(k_));
    comm::check_mpi(
        MPI_Sendrecv(at(given.begin), narrow<int>(given.size()), type_.get(), partner, kTag, received_.data(),
                     narrow<int>(kept.size()), type_.get(), partner, kTag, comm_.get(), MPI_STATUS_IGNORE),
        "MPI_Sendrecv");
    merge_received(kept);
  }

  void merge_received(Slice kept) {
    for (std::int64_t q = kept.begin; q < kept.end; ++q) {
      const std::size_t record = record_bytes(k_);
      const auto place = static_cast<std::size_t>(q - kept.begin);
      merge_record(received_.data() + place * record, records_.data() + static_cast<std::size_t>(q) * record,
                   k_, closer_, scratch_.data());
    }
  }

  const comm::Communicator& comm_;
  std::int64_t nq_;
  std::int64_t k_;
  Closer closer_;
  comm::Datatype type_;
  std::vector<std::byte> records_;
  std::vector<std::byte> received_;
  std::vector<std::byte> scratch_;
};

/// Recursive halving: the ranks split in two halves, each half takes over half of the queries, and every rank
/// hands its answers to the other half's queries to a partner there; then each half does the same, until a
/// rank is alone.
///
/// Exact: at every step each partial answer is kept or handed to exactly one rank of the half that owns its
/// query, and two answers become the k first of both in the total order, whatever the order of steps. Any
/// number of ranks. Cost: ceil(log2(P)) rounds of one message (two for some ranks of an odd group); about nq
/// (1 - 1/P) records of 12 k bytes and nq k comparisons a rank. Holds up to two buffers of nq records.
class HalvingMerge final : public MergeStrategy {
 public:
  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    if (comm.size() == 1) return local;
    Halving halving(local, comm);
    halving.run();
    return halving.slice(local.metric());
  }
};

}  // namespace

std::unique_ptr<MergeStrategy> make_halving_merge() {
  return std::make_unique<HalvingMerge>();
}

}  // namespace mpishards::merge

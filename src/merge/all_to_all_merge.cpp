#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"
#include "merge/multiway.hpp"
#include "merge/slices.hpp"
#include "merge/strategies.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

namespace {

/// One exchange brings every rank all P partial answers to its own slice, and it merges them by a tournament.
///
/// Exact: the owner of a query sees every entry that any rank found for it, and takes the k first in the
/// total order. Cost: one step; each rank sends and receives nq (1 - 1/P) records of 12 k bytes in P - 1
/// messages, and does nq k log2(P) / P comparisons. Holds two buffers of nq records.
class AllToAllMerge final : public MergeStrategy {
 public:
  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    if (comm.size() == 1) return local;
    const std::size_t record = record_bytes(local.k());
    const comm::Datatype type = comm::Datatype::bytes(record);
    std::vector<std::byte> sent(static_cast<std::size_t>(local.nq()) * record);
    pack(local, 0, local.nq(), sent.data());

    const RecordCounts outgoing(local.nq(), comm.size());
    const std::int64_t mine = slice_of(local.nq(), comm.rank(), comm.size()).size();
    const std::vector<int> counts(static_cast<std::size_t>(comm.size()), narrow<int>(mine));
    std::vector<int> offsets;
    for (int rank = 0; rank < comm.size(); ++rank) offsets.push_back(narrow<int>(rank * mine));
    std::vector<std::byte> received(static_cast<std::size_t>(comm.size() * mine) * record);
    comm::check_mpi(MPI_Alltoallv(sent.data(), outgoing.counts.data(), outgoing.offsets.data(), type.get(),
                                  received.data(), counts.data(), offsets.data(), type.get(), comm.get()),
                    "MPI_Alltoallv");

    TopK slice(mine, local.k(), local.metric());
    merge_runs(received.data(), comm.size(), mine, slice);
    return slice;
  }
};

}  // namespace

std::unique_ptr<MergeStrategy> make_all_to_all_merge() {
  return std::make_unique<AllToAllMerge>();
}

}  // namespace mpishards::merge

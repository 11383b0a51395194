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

/// All answers to rank 0, which merges them alone and hands each rank its slice.
///
/// Exact: rank 0 sees every entry of every rank, and takes the k first of them in the total order. It is the
/// oracle of the other strategies. Cost: rank 0 receives P nq records of 12 k bytes, holds them all, and does
/// the whole merge, nq k log2(P) comparisons, while the others wait.
class GatherMerge final : public MergeStrategy {
 public:
  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    if (comm.size() == 1) return local;
    const std::size_t record = record_bytes(local.k());
    const comm::Datatype type = comm::Datatype::bytes(record);
    const std::vector<std::byte> merged = gather_and_merge(local, comm, type);
    const RecordCounts slices(local.nq(), comm.size());
    const std::int64_t mine = slice_of(local.nq(), comm.rank(), comm.size()).size();
    std::vector<std::byte> received(static_cast<std::size_t>(mine) * record);
    comm::check_mpi(MPI_Scatterv(merged.data(), slices.counts.data(), slices.offsets.data(), type.get(),
                                 received.data(), narrow<int>(mine), type.get(), 0, comm.get()),
                    "MPI_Scatterv");
    TopK slice(mine, local.k(), local.metric());
    unpack(received.data(), mine, 0, slice);
    return slice;
  }

 private:
  /// Every query's merged record on rank 0, nothing elsewhere.
  static std::vector<std::byte> gather_and_merge(const TopK& local, const comm::Communicator& comm,
                                                 const comm::Datatype& type) {
    std::vector<std::byte> records(static_cast<std::size_t>(local.nq()) * record_bytes(local.k()));
    pack(local, 0, local.nq(), records.data());
    std::vector<std::byte> all(comm.is_root() ? records.size() * static_cast<std::size_t>(comm.size()) : 0);
    const int count = narrow<int>(local.nq());
    comm::check_mpi(
        MPI_Gather(records.data(), count, type.get(), all.data(), count, type.get(), 0, comm.get()),
        "MPI_Gather");
    if (!comm.is_root()) return {};
    TopK merged(local.nq(), local.k(), local.metric());
    merge_runs(all.data(), comm.size(), local.nq(), merged);
    pack(merged, 0, merged.nq(), records.data());
    return records;
  }
};

}  // namespace

std::unique_ptr<MergeStrategy> make_gather_merge() {
  return std::make_unique<GatherMerge>();
}

}  // namespace mpishards::merge

#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"
#include "merge/reduce_op.hpp"
#include "merge/slices.hpp"
#include "merge/strategies.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {

namespace {

template <bool kSmallerIsBetter>
void merge_run(const std::byte* in, std::byte* inout, int count, MPI_Datatype type) {
  int size = 0;
  MPI_Type_size(type, &size);
  const auto record = static_cast<std::size_t>(size);
  const auto k = static_cast<std::int64_t>(record / record_bytes(1));
  std::vector<std::byte> scratch(record);
  const Closer closer(kSmallerIsBetter);
  for (int i = 0; i < count; ++i, in += record, inout += record)
    merge_record(in, inout, k, closer, scratch.data());
}

extern "C" {

// noexcept: there is no way through MPI for an exception; out of memory for one record ends the process.
void mpishards_merge_smaller(void* in, void* inout, int* count, MPI_Datatype* type) noexcept {
  merge_run<true>(static_cast<const std::byte*>(in), static_cast<std::byte*>(inout), *count, *type);
}

void mpishards_merge_larger(void* in, void* inout, int* count, MPI_Datatype* type) noexcept {
  merge_run<false>(static_cast<const std::byte*>(in), static_cast<std::byte*>(inout), *count, *type);
}

}  // extern "C"

/// MPI_Reduce_scatter with an operation on records of k entries: the library chooses the tree.
///
/// Exact: the operation is commutative and associative, so every grouping gives the k first of all entries.
/// Cost: the library's reduce-scatter, log2(P) rounds or P - 1 steps; about nq (1 - 1/P) records of 12 k
/// bytes and nq k comparisons a rank. Holds a buffer of nq records and those of the library.
class ReduceMerge final : public MergeStrategy {
 public:
  TopK merge(const TopK& local, const comm::Communicator& comm) override {
    if (comm.size() == 1) return local;
    const std::size_t record = record_bytes(local.k());
    const comm::Datatype type = comm::Datatype::bytes(record);
    const comm::Op op = merge_op(local.metric());
    std::vector<std::byte> sent(static_cast<std::size_t>(local.nq()) * record);
    pack(local, 0, local.nq(), sent.data());
    const std::int64_t mine = slice_of(local.nq(), comm.rank(), comm.size()).size();
    std::vector<std::byte> received(static_cast<std::size_t>(mine) * record);
    const RecordCounts slices(local.nq(), comm.size());
    comm::check_mpi(MPI_Reduce_scatter(sent.data(), received.data(), slices.counts.data(), type.get(),
                                       op.get(), comm.get()),
                    "MPI_Reduce_scatter");
    TopK slice(mine, local.k(), local.metric());
    unpack(received.data(), mine, 0, slice);
    return slice;
  }
};

}  // namespace

comm::Op merge_op(Metric metric) {
  return comm::Op::commutative(smaller_is_better(metric) ? mpishards_merge_smaller : mpishards_merge_larger);
}

std::unique_ptr<MergeStrategy> make_reduce_merge() {
  return std::make_unique<ReduceMerge>();
}

}  // namespace mpishards::merge

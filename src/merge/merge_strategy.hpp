#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "comm/communicator.hpp"
#include "core/topk.hpp"

namespace mpishards::merge {

/// Queries [begin, end) of a batch, owned by one rank after the merge.
struct Slice {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

/// Rank r's share of nq queries: contiguous, sizes differ by at most one, in rank order. Pure arithmetic.
Slice slice_of(std::int64_t nq, int rank, int n_ranks);

/// Many ranks' partial answers to the same queries become one, each rank holding its slice of it.
///
/// Every strategy gives the same bytes, because Closer is a total order: the best k of a union do not depend
/// on the order in which parts are merged.
class MergeStrategy {
 public:
  virtual ~MergeStrategy() = default;
  /// Collective over comm.
  /// @param local  nq x k, the same nq, k and metric on every rank; rows sorted by Closer and padded
  /// @return slice_of(nq, rank, size) rows, best first, padded
  /// @throws Error{mpi}
  virtual TopK merge(const TopK& local, const comm::Communicator& comm) = 0;
};

struct MergeRow {
  std::string_view name;
  std::unique_ptr<MergeStrategy> (*make)();
  std::string_view help;
};
std::span<const MergeRow> merge_registry();

/// @param name  a registry name, or "auto": chosen by choose_merge at each merge
/// @throws Error{usage} listing the known names
std::unique_ptr<MergeStrategy> make_merge(std::string_view name);

/// The default for this size: a registry name. Pure arithmetic, the same on every rank.
std::string_view choose_merge(int n_ranks, std::int64_t nq, std::int64_t k);

}  // namespace mpishards::merge

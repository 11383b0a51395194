#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "io/index_directory.hpp"
#include "io/range.hpp"
#include "kernels/codec.hpp"
#include "kernels/index.hpp"

namespace mpishards::rank {

/// The lists of an inverted file, as the ranks of a job know them: list l holds the rows
/// [starts[l], starts[l + 1]) of the base, which lies in list order.
struct InvertedLists {
  std::vector<std::int64_t> starts;                       // count() + 1
  Matrix centroids;                                       // count() x d float32; on every rank
  std::shared_ptr<const kernels::Codec> codec = nullptr;  // of the codes that are searched; null: rows are

  std::int64_t count() const { return std::ssize(starts) - 1; }
  /// List of a row. @pre 0 <= row < starts.back() @par Cost log count()
  std::int64_t list_of(std::int64_t row) const;
  /// The lists that have rows in a range, as [first, last + 1). @pre the range is not empty
  io::Range lists_in(io::Range rows) const;
};

/// Reads the lists on root and shares them. Collective over comm.
/// @param isa  that the codec computes with
/// @throws Error, the same on every rank
InvertedLists load_lists(const std::string& directory, const io::IndexManifest& manifest,
                         const comm::Communicator& comm, const std::string& isa);

/// The part of the lists that lies in some rows of the base: a list may be cut at either end.
class ShardLists {
 public:
  ShardLists() = default;
  ShardLists(const InvertedLists& lists, io::Range rows);

  kernels::RowLists view() const { return {first_list_, starts_}; }
  std::int64_t first_list() const { return first_list_; }
  std::int64_t count() const { return starts_.empty() ? 0 : std::ssize(starts_) - 1; }

 private:
  std::int64_t first_list_ = 0;
  std::vector<std::int64_t> starts_;  // from the first row of the range on
};

/// Lists that queries look into, nearest first.
struct ProbeTable {
  std::int64_t nprobe = 0;          // 0: there are no lists
  std::vector<std::int32_t> lists;  // one query's nprobe after the other's

  kernels::Probes view() const {
    return {lists.data(), nprobe == 0 ? 0 : std::ssize(lists) / nprobe, nprobe};
  }
  std::span<const std::int32_t> row(std::int64_t query) const {
    return std::span(lists).subspan(static_cast<std::size_t>(query * nprobe),
                                    static_cast<std::size_t>(nprobe));
  }
};

/// What centroids are compared by: those of ip and cosine are of unit length, so that the inner product
/// orders them as both metrics do.
Metric probing_metric(Metric metric);

/// Decides which lists a query looks into: those of the nearest centroids, exactly, ties by smaller list; so
/// they depend on nothing but the query and the centroids.
class ListProber {
 public:
  /// @param centroids  must outlive the prober
  ListProber(Metric metric, const Matrix& centroids, const std::string& engine,
             const kernels::EngineOptions& options);

  /// @param nprobe  at most the number of centroids
  /// @par Cost  2 * nq * centroids * d flops, over the threads
  ProbeTable probe(MatrixView<const float> queries, std::int64_t nprobe);

 private:
  Metric metric_;
  std::unique_ptr<kernels::Index> index_;
};

}  // namespace mpishards::rank

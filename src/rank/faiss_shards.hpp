#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/metric.hpp"
#include "io/index_directory.hpp"
#include "io/range.hpp"
#include "kernels/index.hpp"
#include "rank/faiss_index.hpp"

namespace mpishards::rank {

/// The indexes of some shards that FAISS built, searched together: what they find are candidates, to be
/// ranked again by the stored rows.
///
/// Each shard answers each query alone, so what is found depends on the shards and the query, and on neither
/// the ranks that hold them nor the threads or the batch. Ties of FAISS' distances fall to the smaller row.
class FaissShards final : public kernels::Index {
 public:
  FaissShards(Metric metric, int threads) : metric_(metric), threads_(threads) {}

  /// Reads the indexes of some shards, in place of those that it had.
  /// @return sum of the files' checksums
  /// @throws Error{data} naming a file that is not what the manifest says, before FAISS sees it
  std::uint64_t load(const std::string& directory, const io::IndexManifest& manifest, io::Range shards);

  /// How much a query looks at from now on, also in what is loaded later; see FaissIndex.
  void set_parameter(std::int64_t value);

  /// Drops what was loaded. @throws Error{internal} for any rows: they come with load()
  void build(TypedView base, kernels::RowIds ids, kernels::RowLists lists) override;
  /// @param bound  is left aside: FAISS' distances are no bounds
  /// @param[out] out  candidates: row numbers of the base, and FAISS' distances
  void search(MatrixView<const float> queries, kernels::Probes probes, std::span<const float> bound,
              TopK& out) override;

  const kernels::SearchCounters& counters() const override { return counters_; }
  std::size_t bytes() const override { return bytes_; }
  std::string description() const override { return "cpu (FAISS)"; }

 private:
  struct Loaded {
    std::int64_t first_row;
    std::int64_t rows;
    FaissIndex index;
  };
  struct Candidate {
    float distance;
    GlobalId row;
  };
  void search_piece(MatrixView<const float> queries, std::int64_t begin, TopK& out) const;

  Metric metric_;
  int threads_;
  std::int64_t parameter_ = 0;  // 0: what FAISS takes unasked
  std::vector<Loaded> shards_;
  std::size_t bytes_ = 0;
  kernels::SearchCounters counters_;
};

/// Bytes that a search in them takes while it runs, at most.
std::int64_t faiss_scratch_bytes(std::int64_t rows_of_a_shard, std::int64_t shards, std::int64_t d,
                                 std::int64_t k, int threads);

}  // namespace mpishards::rank

#include "rank/faiss_shards.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/one_blas_thread.hpp"
#include "rank/first_failure.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// Queries that a thread searches in a shard before it goes to the next.
constexpr std::int64_t kPieceQueries = 16;

std::uint64_t checked_hash(const std::string& path, const io::IndexShard& shard) {
  const std::uint64_t hash = io::hash_file(path);
  if (hash != shard.faiss_hash)
    throw Error(ErrorKind::data,
                path +
                    " is damaged: its checksum is not that of the manifest; restore the file, "
                    "or build the index again");
  return hash;
}

}  // namespace

std::uint64_t FaissShards::load(const std::string& directory, const io::IndexManifest& manifest,
                                io::Range shards) {
  shards_.clear();
  bytes_ = 0;
  std::uint64_t hashes = 0;
  for (std::int64_t s = shards.begin; s < shards.end; ++s) {
    const io::IndexShard& shard = manifest.shards[narrow<std::size_t>(s)];
    const std::string path = io::faiss_path(directory, s);
    hashes += checked_hash(path, shard);
    shards_.push_back({shard.first_row, shard.rows, FaissIndex::read(path, shard.rows, manifest.d, metric_)});
    if (parameter_ > 0) shards_.back().index.set_parameter(parameter_);
    bytes_ += narrow<std::size_t>(shard.faiss_bytes + manifest.faiss.table_bytes);
  }
  return hashes;
}

void FaissShards::set_parameter(std::int64_t value) {
  parameter_ = value;
  for (Loaded& shard : shards_) shard.index.set_parameter(value);
}

void FaissShards::build(TypedView base, kernels::RowIds, kernels::RowLists) {
  if (base.rows > 0) throw Error(ErrorKind::internal, "rows for an index that FAISS has built already");
  shards_.clear();
  bytes_ = 0;
}

void FaissShards::search(MatrixView<const float> queries, kernels::Probes probes, std::span<const float>,
                         TopK& out) {
  if (probes.rows > 0) throw Error(ErrorKind::internal, "probes for an index of FAISS");
  const kernels::cpu::OneBlasThread one_thread;
  FirstFailure failure;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
  for (std::int64_t begin = 0; begin < queries.rows; begin += kPieceQueries)
    failure.guard([&] {
      if (stop_level() >= 2) throw Error(ErrorKind::stopped, "stopped in the middle of a batch");
      search_piece(queries.slice(begin, std::min(queries.rows, begin + kPieceQueries)), begin, out);
    });
  failure.rethrow();
  counters_.queries += queries.rows * std::ssize(shards_);
}

void FaissShards::search_piece(MatrixView<const float> queries, std::int64_t begin, TopK& out) const {
  const kernels::cpu::DefaultFloatEnvironment environment;
  const Matrix prepared = prepare_for_faiss(
      {DType::f32, reinterpret_cast<const std::byte*>(queries.data), queries.rows, queries.cols}, metric_);
  std::vector<std::vector<Candidate>> found(narrow<std::size_t>(queries.rows));
  std::vector<float> distances;
  std::vector<std::int64_t> rows;
  for (const Loaded& shard : shards_) {
    const std::int64_t k = std::min(out.k(), shard.rows);
    distances.resize(narrow<std::size_t>(queries.rows * k));
    rows.resize(distances.size());
    shard.index.search(prepared.view().as<float>(), k, distances.data(), rows.data());
    for (std::int64_t i = 0; i < queries.rows * k; ++i) {
      const auto at = narrow<std::size_t>(i);
      if (rows[at] < 0) continue;
      const float distance = std::isnan(distances[at]) ? worst_distance(metric_) : distances[at];
      found[narrow<std::size_t>(i / k)].push_back({distance, shard.first_row + rows[at]});
    }
  }
  const Closer closer(metric_);
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    std::vector<Candidate>& of_query = found[narrow<std::size_t>(q)];
    const auto kept = narrow<std::size_t>(std::min(out.k(), std::ssize(of_query)));
    std::ranges::partial_sort(
        of_query, of_query.begin() + narrow<std::ptrdiff_t>(kept),
        [&](const Candidate& a, const Candidate& b) { return closer(a.row, a.distance, b.row, b.distance); });
    const NeighborRow row = out.row(begin + q);
    for (std::size_t i = 0; i < kept; ++i) {
      row.neighbors[i] = of_query[i].row;
      row.distances[i] = of_query[i].distance;
    }
  }
}

std::int64_t faiss_scratch_bytes(std::int64_t rows_of_a_shard, std::int64_t shards, std::int64_t d,
                                 std::int64_t k, int threads) {
  constexpr std::int64_t kCandidateBytes = 16;
  const std::int64_t of_piece = kPieceQueries * (d * 4 + (2 * shards + 1) * k * kCandidateBytes);
  return threads * (of_piece + rows_of_a_shard);  // a graph's rows that were seen, a byte each
}

}  // namespace mpishards::rank

#include "rank/inverted_lists.hpp"

#include <algorithm>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/topk.hpp"
#include "rank/index_spec.hpp"

namespace mpishards::rank {

namespace {

/// Queries that are compared with all centroids at once: what an answer with every list takes stays small.
constexpr std::int64_t kMostProbes = 1 << 22;

}  // namespace

std::int64_t InvertedLists::list_of(std::int64_t row) const {
  return std::upper_bound(starts.begin(), starts.end(), row) - starts.begin() - 1;
}

io::Range InvertedLists::lists_in(io::Range rows) const {
  return {list_of(rows.begin), list_of(rows.end - 1) + 1};
}

InvertedLists load_lists(const std::string& directory, const io::IndexManifest& manifest,
                         const comm::Communicator& comm, const std::string& isa) {
  InvertedLists lists;
  Matrix parameters;
  comm::agree(comm, [&] {
    if (!comm.is_root()) return;
    io::IndexLists read = io::read_lists(directory, manifest);
    lists.centroids = std::move(read.centroids);
    lists.starts = std::move(read.starts);
    parameters = std::move(read.codec);
  });
  comm::agree(comm, [&] {
    if (comm.is_root()) return;
    lists.centroids = Matrix(DType::f32, manifest.nlist, manifest.d);
    lists.starts.resize(narrow<std::size_t>(manifest.nlist + 1));
    parameters = Matrix(DType::f32, manifest.codes.parameter_rows, manifest.d);
  });
  comm.broadcast_bytes(lists.centroids.data(), lists.centroids.bytes());
  comm.broadcast_bytes(lists.starts.data(), lists.starts.size() * sizeof(std::int64_t));
  comm.broadcast_bytes(parameters.data(), parameters.bytes());
  comm::agree(comm, [&] {
    if (manifest.codes.codec.empty()) return;
    const kernels::CodecShape shape = parse_codec(manifest.codes.codec);
    if (shape.code_bytes(manifest.d) != manifest.codes.code_bytes)
      throw Error(ErrorKind::data, directory + " has codes of " + std::to_string(manifest.codes.code_bytes) +
                                       " bytes, " + manifest.codes.codec + " takes " +
                                       std::to_string(shape.code_bytes(manifest.d)) +
                                       "; the index is damaged, build it again");
    lists.codec = kernels::make_codec(shape, std::move(parameters), isa);
  });
  return lists;
}

ShardLists::ShardLists(const InvertedLists& lists, io::Range rows) {
  if (rows.begin == rows.end) return;
  const io::Range inside = lists.lists_in(rows);
  first_list_ = inside.begin;
  for (std::int64_t list = inside.begin; list <= inside.end; ++list)
    starts_.push_back(std::clamp(lists.starts[static_cast<std::size_t>(list)], rows.begin, rows.end) -
                      rows.begin);
}

Metric probing_metric(Metric metric) {
  return metric == Metric::l2 ? Metric::l2 : Metric::ip;
}

ListProber::ListProber(Metric metric, const Matrix& centroids, const std::string& engine,
                       const kernels::EngineOptions& options)
    : metric_(probing_metric(metric)), index_(kernels::make_index("flat", engine, metric_, options)) {
  index_->build(centroids.view(), {});
}

ProbeTable ListProber::probe(MatrixView<const float> queries, std::int64_t nprobe) {
  ProbeTable probes{nprobe, {}};
  probes.lists.resize(static_cast<std::size_t>(queries.rows * nprobe));
  const std::int64_t step = std::max<std::int64_t>(1, kMostProbes / nprobe);
  for (std::int64_t begin = 0; begin < queries.rows; begin += step) {
    const std::int64_t end = std::min(queries.rows, begin + step);
    TopK nearest(end - begin, nprobe, metric_);
    index_->search(queries.slice(begin, end), {}, nearest);
    std::transform(nearest.neighbors(), nearest.neighbors() + (end - begin) * nprobe,
                   probes.lists.begin() + begin * nprobe,
                   [](GlobalId list) { return static_cast<std::int32_t>(list); });
  }
  return probes;
}

}  // namespace mpishards::rank

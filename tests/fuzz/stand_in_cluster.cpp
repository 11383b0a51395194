// Cluster, Executor and Communicator without ranks, threads and MPI: linked instead of those of src, they
// answer at once from a few rows, by the plainest loop there is.
#include "stand_in_cluster.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/convert.hpp"
#include "core/topk.hpp"
#include "kernels/distance.hpp"
#include "serve/executor.hpp"

namespace mpishards::comm {

Communicator::~Communicator() = default;

}  // namespace mpishards::comm

namespace mpishards::serve {

namespace {

struct Collection {
  const char* name;
  Metric metric;
  DType dtype;
  std::int64_t rows;
  std::int64_t dim;
  std::int64_t id_step;  // 1: ids are row numbers
  LoadState state;
};

constexpr Collection kCollections[] = {
    {"docs", Metric::l2, DType::f32, 40, 2, 1, LoadState::loaded},
    {"words", Metric::ip, DType::i8, 25, 3, 1'000'000'007, LoadState::loaded},
    {"angles", Metric::cosine, DType::u8, 9, 1, 1, LoadState::loaded},
    {"away", Metric::l2, DType::f32, 5, 2, 1, LoadState::released},
};

const Collection& collection(int slot) {
  return kCollections[slot];
}

/// Small integers, with rows that are equal.
int element(std::int64_t row, std::int64_t column) {
  return static_cast<int>((row * 5 + column * 3) % 11);
}

Matrix stored_row(const Collection& its, std::int64_t row) {
  Matrix stored(its.dtype, 1, its.dim);
  for (std::int64_t column = 0; column < its.dim; ++column) {
    if (its.dtype == DType::f32)
      stored.as<float>().data[column] = static_cast<float>(element(row, column));
    else
      stored.as<std::int8_t>().data[column] = static_cast<std::int8_t>(element(row, column));
  }
  return stored;
}

std::vector<float> row_of(const Collection& its, std::int64_t row) {
  std::vector<float> values;
  for (std::int64_t column = 0; column < its.dim; ++column)
    values.push_back(static_cast<float>(element(row, column)));
  return values;
}

float distance(const Collection& its, const float* query, const float* row) {
  if (its.metric == Metric::l2) return static_cast<float>(kernels::l2_squared(query, row, its.dim));
  const double product = kernels::dot_product(query, row, its.dim);
  if (its.metric == Metric::ip) return static_cast<float>(product);
  return static_cast<float>(kernels::cosine_similarity(product, kernels::dot_product(query, query, its.dim),
                                                       kernels::dot_product(row, row, its.dim)));
}

CollectionInfo info_of(int slot, LoadState state) {
  const Collection& its = collection(slot);
  CollectionInfo info;
  info.slot = slot;
  info.id = slot + 1;
  info.name = its.name;
  info.metric = its.metric;
  info.dtype = its.dtype;
  info.dim = its.dim;
  info.rows = its.rows;
  info.has_ids = its.id_step != 1;
  info.state = state;
  if (state == LoadState::loaded) info.shards = {{0, "here", its.rows, its.rows * its.dim, 0}};
  return info;
}

}  // namespace

namespace stand_in {

const std::vector<CollectionSpec>& specs() {
  static const std::vector<CollectionSpec> all = [] {
    std::vector<CollectionSpec> made;
    for (const Collection& its : kCollections) made.push_back({its.name, {}, its.metric, false});
    return made;
  }();
  return all;
}

std::vector<Hit> ranked(const CollectionInfo& info, const float* query) {
  const Collection& its = collection(info.slot);
  std::vector<Hit> hits;
  for (std::int64_t row = 0; row < its.rows; ++row)
    hits.push_back({row * its.id_step, distance(its, query, row_of(its, row).data())});
  const Closer closer(its.metric);
  std::ranges::sort(hits,
                    [&](const Hit& a, const Hit& b) { return closer(a.id, a.distance, b.id, b.distance); });
  return hits;
}

const std::vector<GlobalId>& ids(const CollectionInfo& info) {
  static std::vector<GlobalId> by_slot[std::size(kCollections)];
  std::vector<GlobalId>& all = by_slot[info.slot];
  const Collection& its = collection(info.slot);
  while (std::ssize(all) < its.rows) all.push_back(std::ssize(all) * its.id_step);
  return all;
}

}  // namespace stand_in

struct Cluster::Slot {};

Cluster::Cluster(const std::vector<CollectionSpec>& specs, const rank::SearchEngineConfig& engine,
                 const comm::Communicator& comm)
    : specs_(specs), engine_(engine), comm_(comm) {
  for (int slot = 0; slot < static_cast<int>(specs_.size()); ++slot)
    catalogue_.set(info_of(slot, collection(slot).state));
}

Cluster::~Cluster() = default;

void Cluster::begin_load(int /*slot*/) {}
bool Cluster::is_read(int /*slot*/) const {
  return true;
}
void Cluster::finish_load(int slot) {
  catalogue_.set(info_of(slot, LoadState::loaded));
}
void Cluster::release(int slot) {
  catalogue_.set(info_of(slot, LoadState::released));
}

TopK Cluster::search(int slot, Matrix queries, std::int64_t k, BatchRecord& /*record*/) {
  const CollectionInfo& info = *catalogue_.at(slot);
  if (info.state != LoadState::loaded) throw RequestError(Code::collection_not_loaded, "it is released");
  TopK top(queries.rows(), k, info.metric);
  for (std::int64_t q = 0; q < queries.rows(); ++q) {
    const std::vector<stand_in::Hit> hits = stand_in::ranked(info, queries.as<float>().row(q));
    const NeighborRow row = top.row(q);
    for (std::size_t i = 0; i < std::min(hits.size(), row.neighbors.size()); ++i) {
      row.neighbors[i] = hits[i].id;
      row.distances[i] = hits[i].distance;
    }
  }
  return top;
}

std::vector<GlobalId> Cluster::select(int slot, const IdSet& set, std::int64_t limit) {
  std::vector<GlobalId> found;
  for (const GlobalId id : stand_in::ids(*catalogue_.at(slot)))
    if (set.contains(id) && std::ssize(found) < limit) found.push_back(id);
  return found;
}

std::int64_t Cluster::count(int slot, const IdSet& set) {
  return std::ranges::count_if(stand_in::ids(*catalogue_.at(slot)),
                               [&](GlobalId id) { return set.contains(id); });
}

FetchedRows Cluster::fetch(int slot, const std::vector<GlobalId>& ids) {
  const Collection& its = collection(slot);
  FetchedRows rows{Matrix(its.dtype, std::ssize(ids), its.dim), std::vector<char>(ids.size(), 1)};
  std::byte* to = rows.vectors.data();
  for (const GlobalId id : ids) {
    const Matrix row = stored_row(its, id / its.id_step);
    std::memcpy(to, row.data(), row.bytes());
    to += row.bytes();
  }
  return rows;
}

Executor::Executor(int /*n_threads*/) {}
Executor::~Executor() = default;
void Executor::run(std::function<void()> work) {
  work();
}

}  // namespace mpishards::serve

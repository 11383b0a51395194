#include "kernels/cuda/flat.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "kernels/cuda/device_buffer.hpp"
#include "kernels/cuda/flat_kernels.hpp"
#include "kernels/cuda/half_product.hpp"
#include "kernels/cuda/profiler_range.hpp"
#include "kernels/search_calls.hpp"

namespace mpishards::kernels::cuda {
namespace {

// Of the device's free memory; the rest is for the driver and whoever shares the device.
constexpr double kMemoryShare = 0.9;

/// Everything on the device that grows with the queries of a search.
struct QueryBuffers {
  DeviceBuffer<float> values;
  DeviceBuffer<std::uint16_t> plane;
  DeviceBuffer<QueryBound> bounds;
  DeviceBuffer<ScoreCut> score_cuts;
  DeviceBuffer<double> cuts;
  DeviceBuffer<int> counts;
  DeviceBuffer<std::uint8_t> widened;
  DeviceBuffer<std::uint8_t> overflowed;
  DeviceBuffer<float> bound;
  DeviceBuffer<Candidate> candidates;
  DeviceBuffer<float> distances;
  DeviceBuffer<GlobalId> neighbors;
  DeviceBuffer<float> products;
  DeviceBuffer<Neighbor> sort_scratch;

  std::size_t bytes() const {
    return values.bytes() + plane.bytes() + bounds.bytes() + score_cuts.bytes() + cuts.bytes() +
           counts.bytes() + widened.bytes() + overflowed.bytes() + bound.bytes() + candidates.bytes() +
           distances.bytes() + neighbors.bytes() + products.bytes() + sort_scratch.bytes();
  }
};

class FlatIndex final : public Index {
 public:
  FlatIndex(Metric metric, const EngineOptions& options, const CudaOverrides& overrides)
      : metric_(metric), overrides_(overrides), stream_(Stream::create(options.device)), product_(stream_) {
    const DeviceFacts facts = device_facts(stream_);
    limits_.memory_bytes = static_cast<std::int64_t>(kMemoryShare * static_cast<double>(facts.free_bytes) /
                                                     std::max(options.device_ranks, 1));
    if (overrides.memory_bytes > 0) limits_.memory_bytes = overrides.memory_bytes;
    limits_.multiprocessors = facts.multiprocessors;
    limits_.shared_bytes = facts.shared_bytes;
    counters_on_device_.reserve(stream_, 1);
  }

  void build(TypedView base, RowIds ids, RowLists lists) override;
  void search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
              TopK& out) override;

  const SearchCounters& counters() const override { return counters_; }
  std::size_t bytes() const override;
  std::string description() const override {
    return "cuda fp16 (" + product_.description() + "), device " + std::to_string(stream_.device());
  }

 private:
  CudaSearchPlan plan(std::int64_t nq, std::int64_t k) const;
  void place_rows(bool on_device);
  void pack();
  void release_if_tight(const CudaSearchPlan& plan);
  void reserve(const CudaSearchPlan& plan, std::int64_t k);
  void search_chunk(const CudaSearchPlan& plan, MatrixView<const float> queries, std::span<const float> bound,
                    TopK& out, std::int64_t first_row);
  QueryChunk upload(const CudaSearchPlan& plan, MatrixView<const float> queries, std::span<const float> bound,
                    std::int64_t k);
  void take_sample(const CudaSearchPlan& plan, const QueryChunk& chunk);
  void screen_all(const CudaSearchPlan& plan, const QueryChunk& chunk);
  void screen_all_fused(const CudaSearchPlan& plan, const QueryChunk& chunk);
  void search_again(const CudaSearchPlan& plan, MatrixView<const float> queries, std::span<const float> bound,
                    std::span<const std::int64_t> which, TopK& out, std::int64_t first_row);
  void screen(const CudaSearchPlan& plan, const QueryChunk& chunk, ScoredTile tile);
  void settle(const CudaSearchPlan& plan, const QueryChunk& chunk, Settle how);
  void download(const QueryChunk& chunk, TopK& out, std::int64_t first_row);

  Metric metric_;
  CudaOverrides overrides_;
  Stream stream_;
  HalfProduct product_;
  DeviceLimits limits_;

  TypedView base_;  // the caller's
  RowIds ids_;
  double max_row_norm_ = 0;
  StoredRows stored_;
  ScreenedRows screened_;
  DeviceBuffer<std::byte> rows_;
  DeviceMemory registered_rows_;
  DeviceBuffer<GlobalId> explicit_ids_;
  DeviceBuffer<std::uint16_t> plane_;
  DeviceBuffer<float> bias_;
  DeviceBuffer<RowBound> bounds_;

  QueryBuffers query_;
  DeviceBuffer<DeviceCounters> counters_on_device_;
  PinnedBuffer<float> found_distances_;
  PinnedBuffer<GlobalId> found_neighbors_;
  PinnedBuffer<std::uint8_t> found_widened_;
  PinnedBuffer<std::uint8_t> found_overflowed_;

  WidenedQueries widened_;  // of the current search
  SearchCounters counters_;
};

CudaSearchPlan FlatIndex::plan(std::int64_t nq, std::int64_t k) const {
  return plan_cuda_search({base_.rows, nq, base_.cols, k, base_.dtype}, limits_, !ids_.explicit_ids.empty(),
                          overrides_);
}

void FlatIndex::build(TypedView base, RowIds ids, RowLists) {
  check_build(base, ids);
  const ProfilerRange range("build");
  stream_.use_device();
  stream_.wait();
  registered_rows_ = {};
  base_ = base;
  ids_ = ids;
  stored_ = {base.dtype, nullptr, base.rows, base.cols, nullptr, ids.first};
  screened_ = {};
  max_row_norm_ = 0;
  if (base.rows == 0) return;
  const CudaSearchPlan plan = this->plan(1, 1);
  screened_.cols = plan.plane_cols;
  release_if_tight(plan);
  place_rows(plan.rows_on_device);
  if (!ids.explicit_ids.empty()) {
    explicit_ids_.reserve(stream_, base.rows);
    copy_to_device(stream_, explicit_ids_.data(), ids.explicit_ids.data(), ids.explicit_ids.size_bytes());
    stored_.ids = explicit_ids_.data();
  }
  pack();
}

void FlatIndex::place_rows(bool on_device) {
  stream_.wait();  // until nothing reads them where they were
  stored_.values = nullptr;
  registered_rows_ = {};
  const std::size_t bytes = static_cast<std::size_t>(base_.rows) * base_.row_bytes();
  if (on_device) {
    rows_.reserve(stream_, static_cast<std::int64_t>(bytes));
    copy_to_device(stream_, rows_.data(), base_.data, bytes);
    stored_.values = rows_.data();
  } else {
    rows_ = {};
    registered_rows_ = DeviceMemory::registered(stream_, base_.data, bytes);
    stored_.values = static_cast<const std::byte*>(registered_rows_.data());
  }
}

void FlatIndex::pack() {
  const std::int64_t n_bounds = (base_.rows + kBoundRows - 1) / kBoundRows;
  plane_.reserve(stream_, base_.rows * screened_.cols);
  bounds_.reserve(stream_, n_bounds);
  screened_.plane = plane_.data();
  screened_.bounds = bounds_.data();
  if (metric_ == Metric::l2) {
    bias_.reserve(stream_, base_.rows);
    screened_.bias = bias_.data();
  }
  // Unit vectors have no value above 1.
  float max_abs = 1;
  if (metric_ != Metric::cosine) {
    bias_.reserve(stream_, base_.rows);
    fill_zero(stream_, bias_.data(), sizeof(float));
    find_max_abs(stream_, stored_, bias_.data());
    copy_to_host(stream_, &max_abs, bias_.data(), sizeof(float));
    stream_.wait();
  }
  screened_.exponent = plane_exponent(max_abs);
  pack_rows(stream_, metric_, stored_, screened_);
  std::vector<RowBound> bounds(static_cast<std::size_t>(n_bounds));
  copy_to_host(stream_, bounds.data(), bounds_.data(), bounds.size() * sizeof(RowBound));
  stream_.wait();
  double largest = 0;
  for (const RowBound& bound : bounds)
    largest = std::max(largest, static_cast<double>(bound.plane_norm) + bound.residual_norm);
  max_row_norm_ = std::ldexp(largest, -screened_.exponent) * (1 + 0x1p-40);
}

/// Buffers only grow: what earlier searches of other shapes left may not fit beside what this one takes.
void FlatIndex::release_if_tight(const CudaSearchPlan& plan) {
  const std::int64_t rows = plan.rows_on_device ? plan.rows_bytes : 0;
  const auto held = static_cast<std::int64_t>(query_.bytes());
  if (plan.plane_bytes + rows + plan.scratch_bytes + held <= limits_.memory_bytes) return;
  stream_.wait();
  query_ = {};
}

void FlatIndex::reserve(const CudaSearchPlan& plan, std::int64_t k) {
  const std::int64_t nq = plan.query_chunk;
  query_.values.reserve(stream_, nq * base_.cols);
  query_.plane.reserve(stream_, nq * plan.plane_cols);
  query_.bounds.reserve(stream_, nq);
  query_.score_cuts.reserve(stream_, nq);
  query_.cuts.reserve(stream_, nq);
  query_.counts.reserve(stream_, nq);
  query_.widened.reserve(stream_, nq);
  query_.overflowed.reserve(stream_, nq);
  query_.bound.reserve(stream_, nq);
  query_.candidates.reserve(stream_, nq * plan.buffer_entries);
  query_.distances.reserve(stream_, nq * k);
  query_.neighbors.reserve(stream_, nq * k);
  query_.products.reserve(stream_, nq * plan.tile_rows);
  query_.sort_scratch.reserve(stream_, plan.settle_blocks * plan.sort_entries);
  found_distances_.reserve(stream_, nq * k);
  found_neighbors_.reserve(stream_, nq * k);
  found_widened_.reserve(stream_, nq);
  found_overflowed_.reserve(stream_, nq);
}

void FlatIndex::search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
                       TopK& out) {
  if (probes.cols > 0)
    throw Error(ErrorKind::internal,
                std::to_string(probes.cols) + " probed lists a query for a flat index, which has no lists");
  check_search(base_, queries, bound, out, metric_);
  fill_padding(out);
  if (queries.rows == 0) return;
  widened_.reset(queries.rows);
  if (base_.rows == 0) return widened_.add_to(counters_);
  const ProfilerRange range("search/kernels");
  stream_.use_device();
  const std::int64_t k = std::min(out.k(), base_.rows);
  const CudaSearchPlan plan = this->plan(queries.rows, k);
  release_if_tight(plan);
  if (stored_.values == nullptr || plan.rows_on_device != (rows_.bytes() > 0))
    place_rows(plan.rows_on_device);
  reserve(plan, k);
  fill_zero(stream_, counters_on_device_.data(), sizeof(DeviceCounters));
  for (std::int64_t begin = 0; begin < queries.rows; begin += plan.query_chunk) {
    const std::int64_t end = std::min(queries.rows, begin + plan.query_chunk);
    const auto own_bound =
        bound.empty() ? bound
                      : bound.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    search_chunk(plan, queries.slice(begin, end), own_bound, out, begin);
  }
  DeviceCounters sums;
  copy_to_host(stream_, &sums, counters_on_device_.data(), sizeof(DeviceCounters));
  stream_.wait();
  counters_.candidates += static_cast<std::int64_t>(sums.candidates);
  counters_.reranked += static_cast<std::int64_t>(sums.reranked);
  counters_.distances += queries.rows * base_.rows;
  drop_beyond_bound(out, bound);
  widened_.add_to(counters_);
}

QueryChunk FlatIndex::upload(const CudaSearchPlan& plan, MatrixView<const float> queries,
                             std::span<const float> bound, std::int64_t k) {
  copy_to_device(stream_, query_.values.data(), queries.data,
                 static_cast<std::size_t>(queries.rows * queries.cols) * sizeof(float));
  if (!bound.empty()) copy_to_device(stream_, query_.bound.data(), bound.data(), bound.size_bytes());
  const QueryChunk chunk{.nq = queries.rows,
                         .d = queries.cols,
                         .k = k,
                         .values = query_.values.data(),
                         .plane = query_.plane.data(),
                         .bounds = query_.bounds.data(),
                         .score_cuts = query_.score_cuts.data(),
                         .cuts = query_.cuts.data(),
                         .counts = query_.counts.data(),
                         .candidates = query_.candidates.data(),
                         .capacity = plan.buffer_entries,
                         .distances = query_.distances.data(),
                         .neighbors = query_.neighbors.data(),
                         .widened = query_.widened.data(),
                         .overflowed = query_.overflowed.data()};
  begin_queries(stream_, metric_, screened_, bound.empty() ? nullptr : query_.bound.data(), max_row_norm_,
                chunk);
  return chunk;
}

void FlatIndex::search_chunk(const CudaSearchPlan& plan, MatrixView<const float> queries,
                             std::span<const float> bound, TopK& out, std::int64_t first_row) {
  const QueryChunk chunk = upload(plan, queries, bound, std::min(out.k(), base_.rows));
  take_sample(plan, chunk);
  if (plan.fused_shares > 0)
    screen_all_fused(plan, chunk);
  else
    screen_all(plan, chunk);
  settle(plan, chunk, Settle::answers);
  download(chunk, out, first_row);
  std::vector<std::int64_t> overflowed;
  for (std::int64_t q = 0; q < chunk.nq; ++q) {
    if (found_overflowed_.data()[q] != 0) overflowed.push_back(q);
    if (found_overflowed_.data()[q] != 0 || found_widened_.data()[q] != 0) widened_.note(first_row + q);
  }
  if (!overflowed.empty()) search_again(plan, queries, bound, overflowed, out, first_row);
}

void FlatIndex::take_sample(const CudaSearchPlan& plan, const QueryChunk& chunk) {
  if (plan.sample_rows == 0) return;
  screen(plan, chunk,
         {.products = query_.products.data(),
          .pitch = plan.tile_rows,
          .first = 0,
          .rows = plan.sample_rows,
          .stride = base_.rows / plan.sample_rows,
          .is_sample = true});
  settle(plan, chunk, Settle::cuts_only);
}

void FlatIndex::screen_all(const CudaSearchPlan& plan, const QueryChunk& chunk) {
  for (std::int64_t begin = 0; begin < base_.rows; begin += plan.tile_rows) {
    const std::int64_t rows = std::min(plan.tile_rows, base_.rows - begin);
    screen(plan, chunk,
           {.products = query_.products.data(), .pitch = plan.tile_rows, .first = begin, .rows = rows});
    settle(plan, chunk, Settle::room);
  }
}

void FlatIndex::screen_all_fused(const CudaSearchPlan& plan, const QueryChunk& chunk) {
  // Of rows that follow m others, about k / m of them become candidates: each slab is a few times what came
  // before it, so that few launches are needed, and as few times that a query's candidates have room twice
  // over.
  constexpr std::int64_t kMostGrowth = 8;
  const std::int64_t growth =
      std::clamp<std::int64_t>((plan.buffer_entries - chunk.k) / (2 * chunk.k), 1, kMostGrowth);
  constexpr std::int64_t kMostRows = std::int64_t{1} << 30;  // what counts can count
  std::int64_t rows = std::max(plan.tile_rows, plan.sample_rows * growth / kBoundRows * kBoundRows);
  for (std::int64_t begin = 0; begin < base_.rows;
       begin += rows, rows = std::min(begin * growth, kMostRows)) {
    screen_fused(stream_, metric_, screened_, begin, std::min(base_.rows, begin + rows), chunk,
                 plan.fused_shares, overrides_.error_factor);
    settle(plan, chunk, Settle::room);
  }
}

/// Queries that had more candidates than the fused kernel has room for: tile by tile there is always room.
void FlatIndex::search_again(const CudaSearchPlan& plan, MatrixView<const float> queries,
                             std::span<const float> bound, std::span<const std::int64_t> which, TopK& out,
                             std::int64_t first_row) {
  std::vector<float> values;
  std::vector<float> bounds;
  for (const std::int64_t query : which) {
    values.insert(values.end(), queries.row(query), queries.row(query) + queries.cols);
    if (!bound.empty()) bounds.push_back(bound[static_cast<std::size_t>(query)]);
  }
  const QueryChunk chunk =
      upload(plan, {values.data(), std::ssize(which), queries.cols}, bounds, std::min(out.k(), base_.rows));
  take_sample(plan, chunk);
  screen_all(plan, chunk);
  settle(plan, chunk, Settle::answers);
  TopK found(std::ssize(which), out.k(), metric_);
  download(chunk, found, 0);
  for (std::int64_t i = 0; i < std::ssize(which); ++i) {
    const std::int64_t query = first_row + which[static_cast<std::size_t>(i)];
    std::ranges::copy(found.row(i).neighbors, out.row(query).neighbors.begin());
    std::ranges::copy(found.row(i).distances, out.row(query).distances.begin());
  }
}

void FlatIndex::screen(const CudaSearchPlan& plan, const QueryChunk& chunk, ScoredTile tile) {
  const HalfProductShape shape{.nq = chunk.nq,
                               .rows = tile.rows,
                               .cols = plan.plane_cols,
                               .row_stride = plan.plane_cols * tile.stride,
                               .product_pitch = tile.pitch};
  product_.run(stream_, shape, chunk.plane, screened_.plane + tile.first * plan.plane_cols,
               query_.products.data());
  filter_tile(stream_, metric_, screened_, tile, chunk, overrides_.error_factor);
}

void FlatIndex::settle(const CudaSearchPlan& plan, const QueryChunk& chunk, Settle how) {
  const SettleScratch scratch{query_.sort_scratch.data(), plan.settle_blocks, plan.sort_entries};
  settle_queries(stream_, metric_, how, stored_, screened_, chunk, plan.room, scratch,
                 overrides_.error_factor, counters_on_device_.data());
}

/// Answers into rows of `out` from first_row on, and what happened to their queries.
void FlatIndex::download(const QueryChunk& chunk, TopK& out, std::int64_t first_row) {
  const auto entries = static_cast<std::size_t>(chunk.nq * chunk.k);
  const auto nq = static_cast<std::size_t>(chunk.nq);
  copy_to_host(stream_, found_distances_.data(), query_.distances.data(), entries * sizeof(float));
  copy_to_host(stream_, found_neighbors_.data(), query_.neighbors.data(), entries * sizeof(GlobalId));
  copy_to_host(stream_, found_widened_.data(), query_.widened.data(), nq);
  copy_to_host(stream_, found_overflowed_.data(), query_.overflowed.data(), nq);
  stream_.wait();
  for (std::int64_t q = 0; q < chunk.nq; ++q) {
    const NeighborRow row = out.row(first_row + q);
    std::copy_n(found_distances_.data() + q * chunk.k, chunk.k, row.distances.begin());
    std::copy_n(found_neighbors_.data() + q * chunk.k, chunk.k, row.neighbors.begin());
  }
}

std::size_t FlatIndex::bytes() const {
  return rows_.bytes() + explicit_ids_.bytes() + plane_.bytes() + bias_.bytes() + bounds_.bytes() +
         query_.bytes() + counters_on_device_.bytes() + product_.bytes();
}

}  // namespace

std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options) {
  return make_flat(metric, options, {});
}

std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options,
                                 const CudaOverrides& overrides) {
  return std::make_unique<FlatIndex>(metric, options, overrides);
}

}  // namespace mpishards::kernels::cuda

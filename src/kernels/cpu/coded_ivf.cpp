#include "kernels/coded_ivf.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/topk.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/list_search.hpp"
#include "kernels/cpu/scratch.hpp"
#include "kernels/search_calls.hpp"

namespace mpishards::kernels {
namespace cpu {
namespace {

/// Codes that are multiplied at once: their products stay in L1.
constexpr std::int64_t kCodesAtOnce = 1024;
/// Candidates that are kept before the best k are chosen among them, at least.
constexpr std::int64_t kMinBuffer = 1024;

std::int64_t buffer_entries(std::int64_t k) {
  return std::max(kMinBuffer, 2 * k);
}

struct Scored {
  float distance;
  std::uint32_t row;
};

/// The best k of the rows that it is shown.
class BestRows {
 public:
  void begin(Closer closer, const RowIds& ids, std::int64_t k, float bound) {
    closer_ = closer;
    ids_ = &ids;
    k_ = static_cast<std::size_t>(k);
    limit_ = bound;
    entries_.clear();
    entries_.reserve(static_cast<std::size_t>(buffer_entries(k)));
  }

  /// No row that is worse can be among the best.
  float limit() const { return limit_; }
  void add(float distance, std::int64_t row) {
    if (entries_.size() == entries_.capacity()) keep_best();
    entries_.push_back({distance, static_cast<std::uint32_t>(row)});
  }
  /// @return how many were found @param[out] out  a row of an answer that is all padding
  std::int64_t write(NeighborRow out);
  std::size_t bytes() const { return bytes_of(entries_); }

 private:
  bool is_closer(const Scored& a, const Scored& b) const {
    return closer_((*ids_)[a.row], a.distance, (*ids_)[b.row], b.distance);
  }
  void keep_best();

  Closer closer_{true};
  const RowIds* ids_ = nullptr;
  std::size_t k_ = 0;
  float limit_ = 0;
  std::vector<Scored> entries_;
};

void BestRows::keep_best() {
  const auto kth = entries_.begin() + static_cast<std::ptrdiff_t>(k_) - 1;
  std::nth_element(entries_.begin(), kth, entries_.end(),
                   [this](const Scored& a, const Scored& b) { return is_closer(a, b); });
  limit_ = kth->distance;
  entries_.resize(k_);
}

std::int64_t BestRows::write(NeighborRow out) {
  const std::size_t found = std::min(k_, entries_.size());
  std::partial_sort(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(found), entries_.end(),
                    [this](const Scored& a, const Scored& b) { return is_closer(a, b); });
  for (std::size_t i = 0; i < found; ++i) {
    out.neighbors[i] = (*ids_)[entries_[i].row];
    out.distances[i] = entries_[i].distance;
  }
  return static_cast<std::int64_t>(found);
}

/// Beyond float32 a distance may come out as no number at all: the row stays, behind all others.
float number_or(float distance, float worst) {
  return std::isnan(distance) ? worst : distance;
}

/// What one thread works with.
struct Worker {
  ProbeWalk walk;
  BestRows best;
  std::vector<float> table;
  std::vector<float> centred;
  std::vector<float> products;
  SearchCounters counters;

  std::size_t bytes() const {
    return walk.bytes() + best.bytes() + bytes_of(table) + bytes_of(centred) + bytes_of(products);
  }
};

class CodedIvfIndex final : public Index {
 public:
  CodedIvfIndex(Metric metric, const EngineOptions& options, std::shared_ptr<const Codec> codec,
                MatrixView<const float> centroids);

  void build(TypedView base, RowIds ids, RowLists lists) override;
  void search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
              TopK& out) override;

  const SearchCounters& counters() const override { return counters_; }
  std::size_t bytes() const override;
  std::string description() const override {
    return "cpu " + std::string(isa_.name) + " (codes of " + std::to_string(codec_->code_bytes()) +
           " bytes, by list)";
  }

 private:
  void compute_terms();
  void search_query(const float* query, std::span<const std::int32_t> probes, float bound, NeighborRow out,
                    Worker& worker) const;
  void search_list(const float* query, std::int64_t list, Worker& worker) const;
  float distance_to_centroid(const float* query, std::int64_t list) const;
  const float* centroid(std::int64_t list) const { return centroids_.row(lists_.first_list + list); }

  Metric metric_;
  int threads_;
  const Isa& isa_;
  std::shared_ptr<const Codec> codec_;
  MatrixView<const float> centroids_;
  std::vector<float> centre_;  // of all centroids: products are of what is beyond it, so that they are small
  TypedView codes_;
  RowIds ids_;
  RowLists lists_;
  std::vector<float> terms_;  // l2: what a row's distance has beside query and product
  std::vector<Worker> workers_;
  SearchCounters counters_;
};

CodedIvfIndex::CodedIvfIndex(Metric metric, const EngineOptions& options, std::shared_ptr<const Codec> codec,
                             MatrixView<const float> centroids)
    : metric_(metric),
      threads_(options.threads),
      isa_(find_isa(options.isa)),
      codec_(std::move(codec)),
      centroids_(centroids),
      workers_(static_cast<std::size_t>(std::max(options.threads, 1))) {
  check_threads(options.threads);
  std::vector<double> sums(static_cast<std::size_t>(centroids.cols));
  if (metric == Metric::l2)
    for (std::int64_t list = 0; list < centroids.rows; ++list)
      for (std::int64_t i = 0; i < centroids.cols; ++i)
        sums[static_cast<std::size_t>(i)] += centroids.row(list)[i];
  centre_.reserve(sums.size());
  for (const double sum : sums)
    centre_.push_back(static_cast<float>(sum / static_cast<double>(centroids.rows)));
}

void CodedIvfIndex::build(TypedView base, RowIds ids, RowLists lists) {
  if (base.rows > 0 && (base.dtype != DType::u8 || base.cols != codec_->code_bytes()))
    throw Error(ErrorKind::internal, "codes of " + std::to_string(base.cols) + " " +
                                         std::string(to_string(base.dtype)) + ", expected " +
                                         std::to_string(codec_->code_bytes()) + " bytes");
  check_build(base, ids);
  check_lists(base, lists);
  if (lists.first_list + lists.count() > centroids_.rows)
    throw Error(ErrorKind::internal, "list " + std::to_string(lists.first_list + lists.count() - 1) + " of " +
                                         std::to_string(centroids_.rows) + " centroids");
  codes_ = base;
  ids_ = ids;
  lists_ = lists;
  compute_terms();
}

/// With c the centroid, r the decoded difference, m the centre of all centroids:
/// |q - c - r|^2 = |q - c|^2 + (|r|^2 + 2 (c - m).r) - 2 (q - m).r
void CodedIvfIndex::compute_terms() {
  terms_.clear();
  if (metric_ != Metric::l2) return;
  set_size(terms_, codes_.rows);
  const DefaultFloatEnvironment environment;
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 16)
  for (std::int64_t list = 0; list < lists_.count(); ++list) {
    const DefaultFloatEnvironment thread_environment;
    std::vector<float> decoded(centre_.size());
    const auto l = static_cast<std::size_t>(list);
    for (std::int64_t row = lists_.starts[l]; row < lists_.starts[l + 1]; ++row) {
      codec_->decode(codes_.row(row), decoded.data());
      double term = 0;
      for (std::size_t i = 0; i < decoded.size(); ++i) {
        const double r = decoded[i];
        term += r * (r + 2 * (static_cast<double>(centroid(list)[i]) - static_cast<double>(centre_[i])));
      }
      terms_[static_cast<std::size_t>(row)] = static_cast<float>(term);
    }
  }
}

void CodedIvfIndex::search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
                           TopK& out) {
  check_probes(queries, probes);
  check_search({DType::f32, nullptr, codes_.rows, centroids_.cols}, queries, bound, out, metric_);
  fill_padding(out);
  for (Worker& worker : workers_) {
    worker.walk.begin(lists_);
    set_size(worker.table, codec_->table_floats());
    set_size(worker.centred, centroids_.cols);
    set_size(worker.products, kCodesAtOnce);
    worker.counters = {};
  }
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 8)
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    const DefaultFloatEnvironment environment;
    search_query(queries.row(q), probes_of(probes, q),
                 bound.empty() ? worst_distance(metric_) : bound[static_cast<std::size_t>(q)], out.row(q),
                 workers_[static_cast<std::size_t>(omp_get_thread_num())]);
  }
  drop_beyond_bound(out, bound);
  for (const Worker& worker : workers_) counters_ += worker.counters;
}

void CodedIvfIndex::search_query(const float* query, std::span<const std::int32_t> probes, float bound,
                                 NeighborRow out, Worker& worker) const {
  ++worker.counters.queries;
  for (std::size_t i = 0; i < centre_.size(); ++i) worker.centred[i] = query[i] - centre_[i];
  codec_->make_table(worker.centred.data(), worker.table.data());
  worker.best.begin(Closer(metric_), ids_, std::ssize(out.neighbors), bound);
  worker.walk.each(probes, [&](std::int64_t list) { search_list(query, list, worker); });
  worker.counters.candidates += worker.best.write(out);
}

float CodedIvfIndex::distance_to_centroid(const float* query, std::int64_t list) const {
  if (!codes_differences(metric_)) return 0;
  return static_cast<float>(metric_ == Metric::l2 ? isa_.l2_squared(query, centroid(list), centroids_.cols)
                                                  : isa_.dot_product(query, centroid(list), centroids_.cols));
}

void CodedIvfIndex::search_list(const float* query, std::int64_t list, Worker& worker) const {
  const float to_centroid = distance_to_centroid(query, list);
  const RowRange rows = worker.walk.rows(list);
  worker.counters.distances += rows.size();
  float* const values = worker.products.data();
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += kCodesAtOnce) {
    const std::int64_t count = std::min(kCodesAtOnce, rows.end - begin);
    codec_->products(worker.table.data(), codes_.row(begin), count, values);
    const float worst = worst_distance(metric_);
    if (metric_ == Metric::l2) {
      const float* const terms = terms_.data() + begin;
      for (std::int64_t i = 0; i < count; ++i)
        values[i] = number_or((to_centroid + terms[i]) - 2 * values[i], worst);
      for (std::int64_t i = 0; i < count; ++i)
        if (values[i] <= worker.best.limit()) worker.best.add(values[i], begin + i);
    } else {
      for (std::int64_t i = 0; i < count; ++i) values[i] = number_or(to_centroid + values[i], worst);
      for (std::int64_t i = 0; i < count; ++i)
        if (values[i] >= worker.best.limit()) worker.best.add(values[i], begin + i);
    }
  }
}

std::size_t CodedIvfIndex::bytes() const {
  std::size_t total = bytes_of(terms_) + bytes_of(centre_);
  for (const Worker& worker : workers_) total += worker.bytes();
  return total;
}

}  // namespace
}  // namespace cpu

std::unique_ptr<Index> make_coded_ivf(Metric metric, const EngineOptions& options,
                                      std::shared_ptr<const Codec> codec, MatrixView<const float> centroids) {
  return std::make_unique<cpu::CodedIvfIndex>(metric, options, std::move(codec), centroids);
}

bool codes_differences(Metric metric) {
  return metric != Metric::ip;
}

void prepare_for_code(Metric metric, const float* centroid, float* row, std::int64_t d) {
  if (!codes_differences(metric)) return;
  if (metric == Metric::cosine) {
    double squares = 0;
    for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(row[i]) * static_cast<double>(row[i]);
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (std::int64_t i = 0; i < d; ++i) row[i] = static_cast<float>(static_cast<double>(row[i]) * scale);
  }
  for (std::int64_t i = 0; i < d; ++i) row[i] -= centroid[i];
}

CodedSearchBytes plan_coded_search(const CodecShape& codec, std::int64_t rows, std::int64_t d,
                                   std::int64_t n_lists, std::int64_t k, int threads) {
  constexpr std::int64_t kByteValues = 256;
  const std::int64_t table = codec.is_scalar() ? d + 1 : codec.code_bytes(d) * kByteValues;
  const std::int64_t floats = table + d + cpu::kCodesAtOnce;
  const std::int64_t of_thread = floats * static_cast<std::int64_t>(sizeof(float)) +
                                 cpu::buffer_entries(k) * static_cast<std::int64_t>(sizeof(cpu::Scored)) +
                                 cpu::ProbeWalk::bytes_for(n_lists);
  return {.index_bytes = (rows + d) * static_cast<std::int64_t>(sizeof(float)),
          .scratch_bytes = threads * of_thread};
}

}  // namespace mpishards::kernels

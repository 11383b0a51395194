#include "rank/faiss_index.hpp"

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPQFastScan.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/file.hpp"
#include "kernels/cpu/one_blas_thread.hpp"
#include "rank/open_mp_threads.hpp"
#include "rank/stop.hpp"
#include "rank/training_sample.hpp"
#include "rank/unit_length.hpp"

namespace mpishards::rank {

namespace {

/// Rows a centroid, and rows for codewords, that FAISS' k-means looks at, at most.
constexpr std::int64_t kRowsPerCentroid = 256;
constexpr std::int64_t kCodewordRows = 65536;
/// Beyond it FAISS keeps no table.
constexpr std::int64_t kMaxTableBytes = std::int64_t{1} << 31;

faiss::MetricType faiss_metric(Metric metric) {
  return metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

/// What FAISS says is wrong, without where in its sources it noticed.
std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  if (const std::size_t source = text.find(".cpp:");
      text.starts_with("Error in ") && source != std::string::npos)
    if (const std::size_t colon = text.find(": ", source); colon != std::string::npos)
      text.erase(0, colon + 2);
  std::ranges::replace(text, '\n', ' ');
  return text;
}

/// FAISS asks in its loops whether it shall go on.
class StopWhenAsked final : public faiss::InterruptCallback {
 public:
  bool want_interrupt() override { return stop_level() > 0; }
};

void let_stops_interrupt() {
  const std::lock_guard guard(faiss::InterruptCallback::lock);
  if (!faiss::InterruptCallback::instance)
    faiss::InterruptCallback::instance = std::make_unique<StopWhenAsked>();
}

/// Calls FAISS; what it throws becomes an Error of a kind. One thread computes.
template <class Work>
void call_faiss(ErrorKind kind, const std::string& what, const Work& work) {
  const OpenMpThreads one_thread(1);
  try {
    work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (stop_level() > 0) throw Error(ErrorKind::stopped, what + ": stopped");
    throw Error(kind, what + ": " + reason_of(error));
  }
}

class BytesReader final : public faiss::IOReader {
 public:
  explicit BytesReader(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::size_t operator()(void* out, std::size_t size, std::size_t count) override {
    const std::size_t items = size == 0 ? 0 : std::min(count, rest_.size() / size);
    std::copy_n(rest_.begin(), items * size, static_cast<std::byte*>(out));
    rest_ = rest_.subspan(items * size);
    return items;
  }

 private:
  std::span<const std::byte> rest_;
};

class FileReader final : public faiss::IOReader {
 public:
  explicit FileReader(const std::string& path)
      : file_(io::File::open_read(path)), size_(file_.size_bytes()) {}
  std::size_t operator()(void* out, std::size_t size, std::size_t count) override {
    const std::size_t rest = narrow<std::size_t>(size_ - at_);
    const std::size_t items = size == 0 ? 0 : std::min(count, rest / size);
    file_.read_at(at_, out, items * size);
    at_ += narrow<std::int64_t>(items * size);
    return items;
  }

 private:
  io::File file_;
  std::int64_t size_;
  std::int64_t at_ = 0;
};

class FileWriter final : public faiss::IOWriter {
 public:
  explicit FileWriter(const std::string& path) : file_(io::File::open_write(path, true)) {}
  std::size_t operator()(const void* data, std::size_t size, std::size_t count) override {
    file_.write_at(at_, data, size * count);
    at_ += narrow<std::int64_t>(size * count);
    return count;
  }
  void sync() { file_.sync(); }

 private:
  io::File file_;
  std::int64_t at_ = 0;
};

/// The index inside others that prepare its rows or refine its answers.
faiss::Index* innermost(faiss::Index* index) {
  if (auto* outer = dynamic_cast<faiss::IndexPreTransform*>(index)) return innermost(outer->index);
  if (auto* outer = dynamic_cast<faiss::IndexRefine*>(index)) return innermost(outer->base_index);
  return index;
}

/// FAISS writes a line for every small clustering; whoever builds is told once, by the plan.
void train_quietly(faiss::ProductQuantizer& pq) {
  pq.cp.min_points_per_centroid = 1;
}

/// Of what FAISS does in training, what nobody needs here: its lines, and an order of the codewords for a
/// search by Hamming distance, which would take longer than all else.
void simplify_training(faiss::Index* index) {
  if (auto* outer = dynamic_cast<faiss::IndexPreTransform*>(index)) return simplify_training(outer->index);
  if (auto* outer = dynamic_cast<faiss::IndexRefine*>(index)) {
    simplify_training(outer->base_index);
    return simplify_training(outer->refine_index);
  }
  if (auto* lists = dynamic_cast<faiss::IndexIVF*>(index)) lists->cp.min_points_per_centroid = 1;
  if (auto* graph = dynamic_cast<faiss::IndexHNSW*>(index)) simplify_training(graph->storage);
  if (auto* coded = dynamic_cast<faiss::IndexIVFPQ*>(index)) {
    coded->do_polysemous_training = false;
    train_quietly(coded->pq);
  } else if (auto* fast_lists = dynamic_cast<faiss::IndexIVFPQFastScan*>(index)) {
    train_quietly(fast_lists->pq);
  } else if (auto* flat = dynamic_cast<faiss::IndexPQ*>(index)) {
    flat->do_polysemous_training = false;
    train_quietly(flat->pq);
  } else if (auto* fast = dynamic_cast<faiss::IndexPQFastScan*>(index)) {
    train_quietly(fast->pq);
  }
}

/// FAISS divides by zero later, or does not come back from the graph. @throws Error{usage}
void refuse_degenerate(const std::string& factory) {
  for (const std::string_view kind : {"HNSW", "IVF"}) {
    const std::int64_t least = kind == "HNSW" ? 2 : 1;
    for (std::size_t at = factory.find(kind); at != std::string::npos; at = factory.find(kind, at + 1)) {
      const char* const digits = factory.data() + at + kind.size();
      std::int64_t number = least;
      std::from_chars(digits, factory.data() + factory.size(), number);
      if (number < least)
        throw Error(ErrorKind::usage, "faiss:" + factory + " has " + std::string(kind) +
                                          std::to_string(number) + ", expected at least " +
                                          std::to_string(least) + " there");
    }
  }
}

/// Bytes of memory that a row takes.
std::int64_t row_bytes_of(const faiss::Index* index) {
  if (const auto* outer = dynamic_cast<const faiss::IndexPreTransform*>(index))
    return row_bytes_of(outer->index);
  if (const auto* outer = dynamic_cast<const faiss::IndexRefine*>(index))
    return row_bytes_of(outer->base_index) + row_bytes_of(outer->refine_index);
  if (const auto* lists = dynamic_cast<const faiss::IndexIVF*>(index))
    return narrow<std::int64_t>(lists->code_size) + 8;
  if (const auto* codes = dynamic_cast<const faiss::IndexFlatCodes*>(index))
    return narrow<std::int64_t>(codes->code_size);
  if (const auto* graph = dynamic_cast<const faiss::IndexHNSW*>(index))
    return row_bytes_of(graph->storage) + 4 * std::int64_t{graph->hnsw.cum_nb_neighbors(2)} + 16;
  constexpr std::int64_t kLinks = 64;  // of a graph of another kind
  return 4 * (index->d + kLinks);
}

/// Bytes of the table that product codes in lists are looked up in, which is made when the index is read.
std::int64_t table_bytes_of(const faiss::Index* index) {
  const auto* lists = dynamic_cast<const faiss::IndexIVF*>(index);
  const faiss::ProductQuantizer* pq = nullptr;
  bool by_residual = false;
  if (const auto* coded = dynamic_cast<const faiss::IndexIVFPQ*>(index)) {
    pq = &coded->pq;
    by_residual = coded->by_residual;
  } else if (const auto* fast = dynamic_cast<const faiss::IndexIVFPQFastScan*>(index)) {
    pq = &fast->pq;
    by_residual = fast->by_residual;
  }
  if (pq == nullptr || !by_residual || index->metric_type != faiss::METRIC_L2) return 0;
  const auto bytes = narrow<std::int64_t>(lists->nlist * pq->M * pq->ksub * sizeof(float));
  return bytes > kMaxTableBytes ? 0 : bytes;
}

}  // namespace

FaissIndex::FaissIndex(std::unique_ptr<faiss::Index> index, std::string name)
    : index_(std::move(index)),
      name_(std::move(name)),
      one_query_at_a_time_(dynamic_cast<faiss::IndexHNSW*>(index_.get()) == nullptr) {}

FaissIndex::FaissIndex(FaissIndex&&) noexcept = default;
FaissIndex& FaissIndex::operator=(FaissIndex&&) noexcept = default;
FaissIndex::~FaissIndex() = default;

FaissIndex FaissIndex::create(const std::string& factory, std::int64_t d, Metric metric) {
  const std::string name = "faiss:" + factory;
  refuse_degenerate(factory);
  std::unique_ptr<faiss::Index> index;
  call_faiss(ErrorKind::usage, "FAISS makes no index of '" + factory + "' for d = " + std::to_string(d), [&] {
    index.reset(faiss::index_factory(narrow<int>(d), factory.c_str(), faiss_metric(metric)));
  });
  if (dynamic_cast<faiss::IndexIDMap*>(index.get()) != nullptr)
    throw Error(ErrorKind::usage,
                name + " wants ids of its own, but they are kept beside the rows; leave IDMap out");
  simplify_training(index.get());
  return {std::move(index), name};
}

FaissIndex FaissIndex::from_bytes(std::span<const std::byte> bytes, const std::string& factory,
                                  Metric metric) {
  std::unique_ptr<faiss::Index> index;
  const std::string name = "faiss:" + factory;
  call_faiss(ErrorKind::usage, name + " can't be copied", [&] {
    BytesReader reader(bytes);
    index.reset(faiss::read_index(&reader));
    if (index->metric_type != faiss_metric(metric))
      throw Error(ErrorKind::usage, name + " changes its metric when it is stored; FAISS can't keep it");
  });
  return {std::move(index), name};
}

FaissIndex FaissIndex::read(const std::string& path, std::int64_t rows, std::int64_t d, Metric metric) {
  std::unique_ptr<faiss::Index> index;
  call_faiss(ErrorKind::data, path + " can't be read by FAISS", [&] {
    FileReader reader(path);
    index.reset(faiss::read_index(&reader));
  });
  if (index->ntotal != rows || index->d != d || index->metric_type != faiss_metric(metric))
    throw Error(ErrorKind::data, path + " holds an index of " + std::to_string(index->ntotal) + " x " +
                                     std::to_string(index->d) + " rows, expected " + std::to_string(rows) +
                                     " x " + std::to_string(d) + " for " + std::string(to_string(metric)) +
                                     "; build the index again");
  return {std::move(index), path};
}

FaissTraits FaissIndex::traits() const {
  faiss::Index* const inner = innermost(index_.get());
  FaissTraits traits;
  traits.is_trained = index_->is_trained;
  traits.training_rows = traits.is_trained ? 0 : kCodewordRows;
  traits.row_bytes = row_bytes_of(index_.get());
  traits.fixed_bytes = 4 * std::int64_t{inner->d} * inner->d;
  traits.table_bytes = table_bytes_of(inner);
  if (dynamic_cast<faiss::IndexHNSW*>(inner) != nullptr) traits.parameter = "ef-search";
  if (const auto* lists = dynamic_cast<faiss::IndexIVF*>(inner)) {
    traits.parameter = "nprobe";
    traits.most = narrow<std::int64_t>(lists->nlist);
    traits.training_rows = std::max(traits.training_rows, kRowsPerCentroid * traits.most);
    traits.fixed_bytes += traits.most * 4 * (inner->d + 16);
  }
  return traits;
}

void FaissIndex::train(MatrixView<const float> rows) {
  let_stops_interrupt();
  const kernels::cpu::OneBlasThread one_thread;
  call_faiss(ErrorKind::config, name_ + " can't be trained on " + std::to_string(rows.rows) + " rows",
             [&] { index_->train(rows.rows, rows.data); });
}

void FaissIndex::add(MatrixView<const float> rows) {
  let_stops_interrupt();
  call_faiss(ErrorKind::usage, name_ + " can't take rows", [&] {
    index_->add(rows.rows, rows.data);
    float distance = 0;
    faiss::Index::idx_t row = 0;
    if (rows.rows > 0) index_->search(1, rows.data, 1, &distance, &row);  // not every index can be searched
  });
}

std::vector<std::byte> FaissIndex::to_bytes() const {
  faiss::VectorIOWriter writer;
  call_faiss(ErrorKind::usage, name_ + " can't be stored",
             [&] { faiss::write_index(index_.get(), &writer); });
  const auto* data = reinterpret_cast<const std::byte*>(writer.data.data());
  return {data, data + writer.data.size()};
}

void FaissIndex::write(const std::string& path) const {
  FileWriter writer(path);
  call_faiss(ErrorKind::usage, name_ + " can't be stored",
             [&] { faiss::write_index(index_.get(), &writer); });
  writer.sync();
}

void FaissIndex::set_parameter(std::int64_t value) {
  faiss::Index* const inner = innermost(index_.get());
  if (auto* lists = dynamic_cast<faiss::IndexIVF*>(inner))
    lists->nprobe = narrow<std::size_t>(value);
  else if (auto* graph = dynamic_cast<faiss::IndexHNSW*>(inner))
    graph->hnsw.efSearch = narrow<int>(value);
}

void FaissIndex::search(MatrixView<const float> queries, std::int64_t k, float* distances,
                        std::int64_t* rows) const {
  const std::int64_t step = one_query_at_a_time_ ? 1 : std::max<std::int64_t>(1, queries.rows);
  call_faiss(ErrorKind::internal, name_ + " can't be searched", [&] {
    for (std::int64_t begin = 0; begin < queries.rows; begin += step)
      index_->search(std::min(step, queries.rows - begin), queries.row(begin), k, distances + begin * k,
                     rows + begin * k);
  });
}

Matrix prepare_for_faiss(TypedView rows, Metric metric) {
  Matrix floats(DType::f32, rows.rows, rows.cols);
  to_float32(rows.dtype, rows.data, rows.rows * rows.cols, floats.as<float>().data);
  if (metric == Metric::cosine) to_unit_length(floats.as<float>());
  return floats;
}

}  // namespace mpishards::rank

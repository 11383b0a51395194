#include "faiss_peer.hpp"

#include <cblas.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/utils/distances.h>
#include <omp.h>

namespace mpishards::bench {
namespace {

/// Gives the threads to OpenMP and OpenBLAS while it lives.
class ThreadCounts {
 public:
  explicit ThreadCounts(const FaissThreads& threads)
      : omp_before_(omp_get_max_threads()), blas_before_(openblas_get_num_threads()) {
    omp_set_num_threads(threads.omp);
    openblas_set_num_threads(threads.blas);
  }
  ~ThreadCounts() {
    omp_set_num_threads(omp_before_);
    openblas_set_num_threads(blas_before_);
  }
  ThreadCounts(const ThreadCounts&) = delete;
  ThreadCounts& operator=(const ThreadCounts&) = delete;

 private:
  int omp_before_;
  int blas_before_;
};

faiss::MetricType faiss_metric(Metric metric) {
  return metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

}  // namespace

std::vector<FaissThreads> faiss_thread_choices(int n) {
  if (n == 1) return {{}};
  return {{1, n, n}, {1, n, 1}, {1, 1, n}, {n, 1, 1}};
}

struct FaissPeer::Impl {
  faiss::IndexFlat index;
  std::vector<float> distances;
  std::vector<faiss::Index::idx_t> neighbors;
};

FaissPeer::FaissPeer(MatrixView<const float> base, Metric metric)
    : impl_(new Impl{faiss::IndexFlat(base.cols, faiss_metric(metric)), {}, {}}) {
  impl_->index.add(base.rows, base.data);
}

FaissPeer::~FaissPeer() {
  delete impl_;
}

std::int64_t FaissPeer::blas_threshold() {
  return faiss::distance_compute_blas_threshold;
}

void FaissPeer::search(MatrixView<const float> queries, std::int64_t k, const FaissThreads& threads) {
  impl_->distances.resize(static_cast<std::size_t>(queries.rows * k));
  impl_->neighbors.resize(static_cast<std::size_t>(queries.rows * k));
  const auto search_part = [&](int part) {
    const std::int64_t begin = queries.rows * part / threads.searches;
    const std::int64_t end = queries.rows * (part + 1) / threads.searches;
    if (begin == end) return;
    impl_->index.search(end - begin, queries.row(begin), k, impl_->distances.data() + begin * k,
                        impl_->neighbors.data() + begin * k);
  };
  const ThreadCounts counts(threads);
  // Not in a region of one thread: libgomp would start new threads for each region inside of it.
  if (threads.searches == 1) return search_part(0);
#pragma omp parallel for num_threads(threads.searches) schedule(static, 1)
  for (int part = 0; part < threads.searches; ++part) search_part(part);
}

struct FaissIvfPeer::Impl {
  faiss::IndexFlat quantizer;
  faiss::IndexIVFFlat index;
  std::vector<float> list_distances;
  std::vector<faiss::Index::idx_t> lists;
  std::vector<float> distances;
  std::vector<faiss::Index::idx_t> neighbors;

  Impl(std::int64_t d, std::int64_t nlist, Metric metric)
      : quantizer(d, faiss_metric(metric)),
        index(&quantizer, static_cast<std::size_t>(d), static_cast<std::size_t>(nlist),
              faiss_metric(metric)) {}
};

FaissIvfPeer::FaissIvfPeer(MatrixView<const float> base, std::int64_t nlist, Metric metric, int threads)
    : impl_(new Impl(base.cols, nlist, metric)) {
  const ThreadCounts counts({1, threads, threads});
  impl_->index.train(base.rows, base.data);
  impl_->index.add(base.rows, base.data);
}

FaissIvfPeer::~FaissIvfPeer() {
  delete impl_;
}

std::vector<std::int64_t> FaissIvfPeer::rows_by_list(std::vector<std::int64_t>& starts) const {
  std::vector<std::int64_t> rows;
  starts = {0};
  for (std::size_t list = 0; list < impl_->index.nlist; ++list) {
    const faiss::Index::idx_t* const ids = impl_->index.invlists->get_ids(list);
    rows.insert(rows.end(), ids, ids + impl_->index.invlists->list_size(list));
    starts.push_back(static_cast<std::int64_t>(rows.size()));
  }
  return rows;
}

std::vector<std::int32_t> FaissIvfPeer::choose(MatrixView<const float> queries, std::int64_t nprobe) {
  impl_->index.nprobe = static_cast<std::size_t>(nprobe);
  impl_->list_distances.resize(static_cast<std::size_t>(queries.rows * nprobe));
  impl_->lists.resize(static_cast<std::size_t>(queries.rows * nprobe));
  impl_->quantizer.search(queries.rows, queries.data, nprobe, impl_->list_distances.data(),
                          impl_->lists.data());
  return {impl_->lists.begin(), impl_->lists.end()};
}

void FaissIvfPeer::search(MatrixView<const float> queries, std::int64_t k, int threads) {
  impl_->distances.resize(static_cast<std::size_t>(queries.rows * k));
  impl_->neighbors.resize(static_cast<std::size_t>(queries.rows * k));
  const ThreadCounts counts({1, threads, 1});
  impl_->index.search_preassigned(queries.rows, queries.data, k, impl_->lists.data(),
                                  impl_->list_distances.data(), impl_->distances.data(),
                                  impl_->neighbors.data(), false);
}

const float* FaissIvfPeer::distances() const {
  return impl_->distances.data();
}

const std::int64_t* FaissIvfPeer::neighbors() const {
  return impl_->neighbors.data();
}

}  // namespace mpishards::bench

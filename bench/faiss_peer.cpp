#include "faiss_peer.hpp"

#include <cblas.h>
#include <faiss/IndexFlat.h>
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
    : impl_(new Impl{
          faiss::IndexFlat(base.cols, metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT),
          {},
          {}}) {
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

}  // namespace mpishards::bench

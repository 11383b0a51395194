#include "faiss_peer.hpp"

#include <cblas.h>
#include <faiss/IndexFlat.h>
#include <omp.h>

#include <vector>

namespace mpishards::bench {

struct FaissPeer::Impl {
  faiss::IndexFlat index;
  int threads;
  std::vector<float> distances;
  std::vector<faiss::Index::idx_t> neighbors;
};

FaissPeer::FaissPeer(MatrixView<const float> base, Metric metric, int threads)
    : impl_(new Impl{
          faiss::IndexFlat(base.cols, metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT),
          threads,
          {},
          {}}) {
  impl_->index.add(base.rows, base.data);
}

FaissPeer::~FaissPeer() {
  delete impl_;
}

void FaissPeer::search(MatrixView<const float> queries, std::int64_t k, int blas_threads) {
  impl_->distances.resize(static_cast<std::size_t>(queries.rows * k));
  impl_->neighbors.resize(static_cast<std::size_t>(queries.rows * k));
  const int blas_before = openblas_get_num_threads();
  omp_set_num_threads(impl_->threads);
  openblas_set_num_threads(blas_threads);
  impl_->index.search(queries.rows, queries.data, k, impl_->distances.data(), impl_->neighbors.data());
  openblas_set_num_threads(blas_before);
}

}  // namespace mpishards::bench

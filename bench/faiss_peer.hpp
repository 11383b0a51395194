#pragma once

#include <cstdint>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"

namespace mpishards::bench {

/// FAISS IndexFlat over float32 rows: the peer.
class FaissPeer {
 public:
  FaissPeer(MatrixView<const float> base, Metric metric, int threads);
  ~FaissPeer();
  FaissPeer(const FaissPeer&) = delete;
  FaissPeer& operator=(const FaissPeer&) = delete;

  /// @param blas_threads  threads of OpenBLAS inside FAISS' own matrix products
  void search(MatrixView<const float> queries, std::int64_t k, int blas_threads);

 private:
  struct Impl;
  Impl* impl_;
};

}  // namespace mpishards::bench

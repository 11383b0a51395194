#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"

namespace mpishards::bench {

/// How FAISS shares its threads out.
struct FaissThreads {
  int searches = 1;  ///< searches of a part of the queries each, side by side
  int omp = 1;       ///< threads of FAISS' own parallel regions, per search
  int blas = 1;      ///< threads of OpenBLAS inside FAISS' matrix products, per search
};

/// "omp/blas", or "searches x omp/blas" where searches run side by side.
inline std::string to_string(const FaissThreads& threads) {
  const std::string one_search = std::to_string(threads.omp) + "/" + std::to_string(threads.blas);
  return threads.searches == 1 ? one_search : std::to_string(threads.searches) + " x " + one_search;
}

/// Every way to use n threads that can be the fastest; the one way that exists for n = 1.
std::vector<FaissThreads> faiss_thread_choices(int n);

/// FAISS IndexFlat over float32 rows: the peer.
class FaissPeer {
 public:
  FaissPeer(MatrixView<const float> base, Metric metric);
  ~FaissPeer();
  FaissPeer(const FaissPeer&) = delete;
  FaissPeer& operator=(const FaissPeer&) = delete;

  /// Queries from which FAISS computes by matrix products; below, row by row.
  static std::int64_t blas_threshold();

  void search(MatrixView<const float> queries, std::int64_t k, const FaissThreads& threads);

 private:
  struct Impl;
  Impl* impl_;
};

}  // namespace mpishards::bench

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

/// FAISS IndexIVFFlat over float32 rows: the peer, and the maker of the lists that both search.
class FaissIvfPeer {
 public:
  /// Trains and adds, with its default settings. @param threads  of OpenMP and OpenBLAS
  FaissIvfPeer(MatrixView<const float> base, std::int64_t nlist, Metric metric, int threads);
  ~FaissIvfPeer();
  FaissIvfPeer(const FaissIvfPeer&) = delete;
  FaissIvfPeer& operator=(const FaissIvfPeer&) = delete;

  /// Rows of the base in list order. @param[out] starts  nlist + 1
  std::vector<std::int64_t> rows_by_list(std::vector<std::int64_t>& starts) const;

  /// The nearest lists of every query, by its own quantiser: choose() before search().
  /// @return nq x nprobe list numbers
  std::vector<std::int32_t> choose(MatrixView<const float> queries, std::int64_t nprobe);

  /// Searches the lists chosen last, n queries at once.
  void search(MatrixView<const float> queries, std::int64_t k, int threads);

  const float* distances() const;         // nq x k
  const std::int64_t* neighbors() const;  // nq x k

 private:
  struct Impl;
  Impl* impl_;
};

}  // namespace mpishards::bench

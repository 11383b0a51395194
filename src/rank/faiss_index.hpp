#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/types.hpp"

namespace faiss {
struct Index;
}

namespace mpishards::rank {

/// What is known of an index of FAISS from its factory string alone.
struct FaissTraits {
  bool is_trained = false;         // it needs no training
  std::int64_t training_rows = 0;  // that make it good, unasked
  std::string parameter;           // "nprobe", "ef-search": how much of it a query looks at; empty: all
  std::int64_t most = 0;           // lists; 0: as many as there are rows
  std::int64_t row_bytes = 0;      // of memory that a row takes, about
  std::int64_t fixed_bytes = 0;    // of centroids and codewords, about
  std::int64_t table_bytes = 0;    // that the index holds beside what is in its file
};

/// An index that FAISS makes, fills and searches, with what it needs to give the same bytes each time: one
/// thread, and one query at a time where many together are computed otherwise than each alone.
///
/// Rows and queries of cosine have length 1 here, and their inner products are what FAISS knows.
/// Every member throws Error{internal} with FAISS' words where they are not said to throw another.
class FaissIndex {
 public:
  /// An empty index. @param factory  as FAISS' index_factory reads it
  /// @throws Error{usage} quoting the factory string where FAISS does not know it, or where rows can't be
  /// added to what it stands for
  static FaissIndex create(const std::string& factory, std::int64_t d, Metric metric);
  /// @param bytes  those that to_bytes() gave of the index that `factory` names
  /// @throws Error{usage} where FAISS can't store and read such an index
  static FaissIndex from_bytes(std::span<const std::byte> bytes, const std::string& factory, Metric metric);
  /// Reads a file that write() made. @pre its checksum was compared: FAISS does not survive every damaged
  /// file
  /// @throws Error{data} naming the file where it holds no index of rows x d
  static FaissIndex read(const std::string& path, std::int64_t rows, std::int64_t d, Metric metric);

  FaissIndex(FaissIndex&&) noexcept;
  FaissIndex& operator=(FaissIndex&&) noexcept;
  ~FaissIndex();

  FaissTraits traits() const;

  /// @param rows  as FAISS takes them, see prepare_for_faiss
  /// @throws Error{config} with FAISS' words, such as that there are too few; Error{stopped} where a stop was
  /// asked for
  void train(MatrixView<const float> rows);
  /// Adds all rows of a shard. @throws Error{stopped} where a stop was asked for
  void add(MatrixView<const float> rows);

  std::vector<std::byte> to_bytes() const;
  /// Writes and syncs the file. @throws Error{io|cannot_create}
  void write(const std::string& path) const;

  /// How much a query looks at from now on. @pre the index has such a parameter
  void set_parameter(std::int64_t value);

  /// Finds about the nearest k rows of every query. May be called by several threads at once.
  /// @param queries  as FAISS takes them
  /// @param[out] distances, rows  nq x k; padded with row -1
  void search(MatrixView<const float> queries, std::int64_t k, float* distances, std::int64_t* rows) const;

 private:
  FaissIndex(std::unique_ptr<faiss::Index> index, std::string name);

  std::unique_ptr<faiss::Index> index_;
  std::string name_;  // of the file, or the factory string, for messages
  bool one_query_at_a_time_ = true;
};

/// Stored rows as FAISS takes them: float32, of length 1 for cosine.
Matrix prepare_for_faiss(TypedView rows, Metric metric);

}  // namespace mpishards::rank

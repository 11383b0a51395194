#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "comm/communicator.hpp"
#include "core/matrix_view.hpp"
#include "io/journal.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Queries of one batch as float32, and what reading them took.
struct QueryBatch {
  io::Range range;  // rows of the query file(s)
  Matrix queries;   // float32, rows x d
  std::uint64_t content_hash = 0;
  std::int64_t bytes_read = 0;
  double read_seconds = 0;
};

/// The frontend's reader: hands out one batch while the next one is read in the background. Root alone has
/// one.
class QueryReader {
 public:
  /// @param source  must outlive the reader
  /// @param threads  that read, where queries are many
  QueryReader(const io::VectorSource& source, int threads) : source_(source), threads_(threads) {}

  /// Starts to read in the background; an earlier batch that was not taken is forgotten.
  void prefetch(io::Range rows);
  /// The batch, from the background if it was prefetched, else read now.
  /// @throws Error{data} naming file and row of a value that is not finite; Error{io}
  QueryBatch take(io::Range rows);

 private:
  QueryBatch read(io::Range rows, int threads) const;

  const io::VectorSource& source_;
  int threads_;
  io::Range prefetched_;
  std::future<QueryBatch> next_;
};

/// Some queries, on every rank. Collective over comm.
/// @param reader  on root; elsewhere ignored
/// @param rows    of the query file(s), the same on every rank
/// @return rows.size() x d, float32
Matrix read_queries_everywhere(QueryReader* reader, const std::vector<std::int64_t>& rows, std::int64_t d,
                               const comm::Communicator& comm);

}  // namespace mpishards::rank

#include "rank/query_reader.hpp"

#include <cstring>

#include "comm/agree.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "rank/read_pieces.hpp"
#include "rank/stored_rows.hpp"

namespace mpishards::rank {

QueryBatch QueryReader::read(io::Range rows, int threads) const {
  const double start = steady_seconds();
  QueryBatch batch;
  batch.range = rows;
  StoredRows stored = read_stored_rows(source_, rows, threads);
  batch.bytes_read = static_cast<std::int64_t>(stored.rows.bytes());
  batch.read_seconds = steady_seconds() - start;
  batch.content_hash = stored.content_hash;
  if (stored.bad_row)
    throw Error(ErrorKind::data,
                source_.describe_row(rows.begin + *stored.bad_row) +
                    " holds NaN, an infinity or a value beyond float32; repair the query or leave it "
                    "out with --queries-range");
  batch.queries = to_float32(std::move(stored.rows));
  return batch;
}

void QueryReader::prefetch(io::Range rows) {
  prefetched_ = rows;
  next_ =
      std::async(std::launch::async, [this, rows] { return read(rows, threads_beside_search(threads_)); });
}

QueryBatch QueryReader::take(io::Range rows) {
  if (next_.valid() && prefetched_ == rows) return next_.get();
  return read(rows, threads_);
}

Matrix read_queries_everywhere(QueryReader* reader, const std::vector<std::int64_t>& rows, std::int64_t d,
                               const comm::Communicator& comm) {
  Matrix queries(DType::f32, std::ssize(rows), d);
  comm::agree(comm, [&] {
    for (std::size_t i = 0; comm.is_root() && i < rows.size(); ++i) {
      const QueryBatch one = reader->take({rows[i], rows[i] + 1});
      std::memcpy(queries.data() + i * one.queries.bytes(), one.queries.data(), one.queries.bytes());
    }
  });
  comm.broadcast_bytes(queries.data(), queries.bytes());
  return queries;
}

}  // namespace mpishards::rank

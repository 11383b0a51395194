#include "rank/query_reader.hpp"

#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

QueryBatch QueryReader::read(io::Range rows) const {
  const double start = steady_seconds();
  QueryBatch batch;
  batch.range = rows;
  const Matrix stored = source_.read_matrix(rows.begin, rows.end);
  batch.bytes_read = static_cast<std::int64_t>(stored.bytes());
  batch.read_seconds = steady_seconds() - start;
  batch.content_hash = hash_rows(stored.view(), rows.begin);
  if (const auto bad = first_nonfinite_row(stored.view()))
    throw Error(ErrorKind::data,
                source_.describe_row(rows.begin + *bad) +
                    " holds NaN, an infinity or a value beyond float32; repair the query or leave it "
                    "out with --queries-range");
  batch.queries = to_float32(stored);
  return batch;
}

void QueryReader::prefetch(io::Range rows) {
  prefetched_ = rows;
  next_ = std::async(std::launch::async, [this, rows] { return read(rows); });
}

QueryBatch QueryReader::take(io::Range rows) {
  if (next_.valid() && prefetched_ == rows) return next_.get();
  return read(rows);
}

}  // namespace mpishards::rank

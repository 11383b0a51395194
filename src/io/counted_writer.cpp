#include "io/counted_writer.hpp"

#include "core/error.hpp"
#include "core/narrow.hpp"

namespace mpishards::io {

void CountedWriter::append(const std::byte* data, std::int64_t rows) {
  if (rows < 0 || rows > rows_ - written_)
    throw Error(ErrorKind::internal, file_.path() + ": " + std::to_string(written_ + rows) +
                                         " rows for a file of " + std::to_string(rows_));
  write_rows(written_, data, rows);
  written_ += rows;
}

void CountedWriter::append_ids(std::span<const GlobalId> ids) {
  const auto count = narrow<std::int64_t>(ids.size());
  if (!with_ids_ || count > rows_ - ids_written_)
    throw Error(ErrorKind::internal,
                file_.path() + " has no place for " + std::to_string(count) + " more ids");
  write_ids(ids_written_, ids);
  ids_written_ += count;
}

void CountedWriter::close() {
  if (with_ids_ && ids_written_ != rows_)
    throw Error(ErrorKind::internal, file_.path() + ": " + std::to_string(ids_written_) + " of " +
                                         std::to_string(rows_) + " ids were appended");
  if (written_ != rows_)
    throw Error(ErrorKind::internal, file_.path() + ": " + std::to_string(written_) + " of " +
                                         std::to_string(rows_) + " rows were appended");
  file_.publish();
}

}  // namespace mpishards::io

#include "rank/stored_rows.hpp"

#include <algorithm>
#include <future>
#include <vector>

#include "core/convert.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{16} << 20;

}  // namespace

StoredRows read_stored_rows(const io::VectorSource& source, io::Range rows, int threads) {
  const std::int64_t count = rows.end - rows.begin;
  StoredRows stored;
  stored.rows = Matrix(source.dtype(), count, source.cols());
  const auto row_bytes = static_cast<std::int64_t>(stored.rows.view().row_bytes());
  const std::int64_t pieces =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(stored.rows.bytes()) / kPieceBytes, 1, threads);

  struct Seen {
    std::uint64_t hash = 0;
    std::optional<std::int64_t> bad_row;
  };
  const auto read_piece = [&](std::int64_t piece) {
    const std::int64_t begin = count * piece / pieces;
    const std::int64_t end = count * (piece + 1) / pieces;
    std::byte* const out = stored.rows.data() + begin * row_bytes;
    source.read_rows(rows.begin + begin, rows.begin + end, out);
    const TypedView view{source.dtype(), out, end - begin, source.cols()};
    Seen seen{hash_rows(view, rows.begin + begin), first_nonfinite_row(view)};
    if (seen.bad_row) *seen.bad_row += begin;
    return seen;
  };
  std::vector<std::future<Seen>> others;
  for (std::int64_t piece = 1; piece < pieces; ++piece)
    others.push_back(std::async(std::launch::async, read_piece, piece));
  const auto take = [&stored](const Seen& seen) {
    stored.content_hash += seen.hash;
    if (!stored.bad_row) stored.bad_row = seen.bad_row;
  };
  take(read_piece(0));
  for (std::future<Seen>& other : others) take(other.get());
  return stored;
}

}  // namespace mpishards::rank

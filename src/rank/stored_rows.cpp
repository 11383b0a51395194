#include "rank/stored_rows.hpp"

#include <vector>

#include "core/convert.hpp"
#include "rank/read_pieces.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

StoredRows read_stored_rows(const io::VectorSource& source, io::Range rows, int threads) {
  StoredRows stored;
  stored.rows = Matrix(source.dtype(), rows.end - rows.begin, source.cols());
  const TypedView all = stored.rows.view();
  std::byte* const out = stored.rows.data();

  struct Seen {
    std::uint64_t hash = 0;
    std::optional<std::int64_t> bad_row;
  };
  std::vector<Seen> seen(static_cast<std::size_t>(read_pieces(source, stored.rows.bytes(), threads)));
  read_in_pieces(all.rows, std::ssize(seen), [&](std::int64_t number, io::Range piece) {
    const TypedView view{all.dtype, all.row(piece.begin), piece.end - piece.begin, all.cols};
    source.read_rows(rows.begin + piece.begin, rows.begin + piece.end, out + (view.data - all.data));
    Seen& own = seen[static_cast<std::size_t>(number)];
    own = {hash_rows(view, rows.begin + piece.begin), first_nonfinite_row(view)};
    if (own.bad_row) *own.bad_row += piece.begin;
  });
  for (const Seen& own : seen) {
    stored.content_hash += own.hash;
    if (!stored.bad_row) stored.bad_row = own.bad_row;
  }
  return stored;
}

}  // namespace mpishards::rank

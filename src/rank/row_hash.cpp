#include "rank/row_hash.hpp"

#include <xxhash.h>

namespace mpishards::rank {

std::uint64_t hash_rows(TypedView view, std::int64_t first_row) {
  std::uint64_t sum = 0;
  for (std::int64_t row = 0; row < view.rows; ++row)
    sum += XXH3_64bits_withSeed(view.row(row), view.row_bytes(), static_cast<XXH64_hash_t>(first_row + row));
  return sum;
}

std::uint64_t hash_ids(std::span<const GlobalId> ids, std::int64_t first_row) {
  return hash_rows({DType::i64, reinterpret_cast<const std::byte*>(ids.data()), std::ssize(ids), 1},
                   first_row);
}

std::uint64_t hash_rows(TypedView view, std::span<const GlobalId> ids) {
  std::uint64_t sum = 0;
  for (std::int64_t row = 0; row < view.rows; ++row)
    sum += XXH3_64bits_withSeed(view.row(row), view.row_bytes(),
                                static_cast<XXH64_hash_t>(ids[static_cast<std::size_t>(row)]));
  return sum;
}

}  // namespace mpishards::rank

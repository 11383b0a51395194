#pragma once

#include <cstdint>
#include <span>

#include "core/matrix_view.hpp"
#include "core/types.hpp"

namespace mpishards::rank {

/// Sum modulo 2^64 of a hash of every row and its number: the same for any cut of the rows into shards, so
/// ranks can hash their own parts and add.
/// @param first_row  number of view's first row in the whole input
/// @par Source  XXH3-64 of the row's bytes, seeded with the row number
std::uint64_t hash_rows(TypedView view, std::int64_t first_row);

/// The same of one id a row.
std::uint64_t hash_ids(std::span<const GlobalId> ids, std::int64_t first_row);

/// The same, every row's hash seeded with its id: the same for any order of the rows.
/// @param ids  view.rows ids
std::uint64_t hash_rows(TypedView view, std::span<const GlobalId> ids);

}  // namespace mpishards::rank

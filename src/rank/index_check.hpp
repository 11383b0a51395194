#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/index_directory.hpp"

namespace mpishards::rank {

/// Compares what was read of an index with what its manifest says was written.
/// @param rows_hash  sum over all its rows, or over all their codes, see hash_rows
/// @param ids_hash   the same of their ids; nothing where a part of them was not read now, or codes were
/// @throws Error{data} naming the damaged file, which it finds by reading all of them again
void require_undamaged(const std::string& directory, const io::IndexManifest& index, bool of_codes,
                       std::uint64_t rows_hash, std::optional<std::uint64_t> ids_hash);

}  // namespace mpishards::rank

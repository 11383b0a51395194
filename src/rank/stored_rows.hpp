#pragma once

#include <cstdint>
#include <optional>

#include "core/matrix_view.hpp"
#include "io/range.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Rows as a file holds them, and what everybody who reads some wants to know.
struct StoredRows {
  Matrix rows;
  std::uint64_t content_hash = 0;       // of all of them, see hash_rows
  std::optional<std::int64_t> bad_row;  // the first of them with a value that is no finite float32
};

/// Reads rows, hashes and checks them, in several threads where there is a piece of 16 MiB for each: one
/// stream gets but a part of what a file system or a device gives.
/// @param threads  >= 1, the calling one among them
/// @throws Error{io|data} as VectorSource::read_rows
StoredRows read_stored_rows(const io::VectorSource& source, io::Range rows, int threads);

}  // namespace mpishards::rank

#pragma once

#include <cstdint>

#include "core/types.hpp"
#include "io/range.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::app {

/// Rows of a source on their way to another file.
struct VectorCopy {
  const io::VectorSource& source;
  io::Range rows;
  DType dtype = DType::f32;  // in which they are written
  bool with_ids = false;     // their ids go along
  bool unit_length = false;  // each row is given length 1; then dtype is f32
};

/// Of what was read, see rank/row_hash.hpp: an index can compare them with its own.
struct CopiedHashes {
  std::uint64_t rows = 0;
  std::uint64_t ids = 0;
};

/// Appends the rows, and their ids, to a file, in bounded memory, and shows on a terminal how far it is.
/// @throws Error{data} naming row and value where one has no place in the dtype: finite values stay finite
CopiedHashes copy_vectors(const VectorCopy& copy, io::VectorWriter& writer);

}  // namespace mpishards::app

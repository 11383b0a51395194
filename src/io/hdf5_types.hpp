#pragma once

#include <string>

#include "core/types.hpp"
#include "io/hdf5_handle.hpp"
#include "io/vector_source.hpp"

namespace mpishards::io {

/// How the elements of a data set become one of our dtypes.
struct Hdf5Element {
  DType dtype = DType::f32;
  StoredElement stored;
  H5Type memory;            // the type to hand to H5Dread
  bool same_bits = false;   // stored bits are the dtype's own, but for the byte order
  bool swap_bytes = false;  // stored in the other byte order
};

/// @pre the caller holds the Hdf5Lock
/// @throws Error{data} naming the type found and the types that can be read
Hdf5Element hdf5_element_of(const H5Dataset& dataset, const std::string& subject);

/// Type to create a data set of this dtype with, little endian. bf16 is stored as uint16; mark_bfloat16 says
/// so.
/// @pre the caller holds the Hdf5Lock
H5Type hdf5_stored_type(DType dtype);
void mark_bfloat16(const H5Dataset& dataset, const std::string& subject);

}  // namespace mpishards::io

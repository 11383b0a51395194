#pragma once

#include <cstdint>
#include <string_view>

#include "core/matrix_view.hpp"

namespace mpishards::serve::milvus {

/// The query vectors of a serialized PlaceholderGroup, as float32: one message of any size is read without a
/// second copy of it.
///
/// Float, Float16, BFloat16 and Int8 vectors are widened exactly; unknown fields are skipped.
/// @param dim  of the collection: each value must hold so many elements
/// @param nq   that the request announces; 0: however many there are
/// @return nq x dim
/// @throws RequestError{invalid_parameter} for other types (binary, sparse, text), a wrong number or length
/// of values, or bytes that are no PlaceholderGroup
Matrix parse_placeholder_group(std::string_view bytes, std::int64_t dim, std::int64_t nq);

}  // namespace mpishards::serve::milvus

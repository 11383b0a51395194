#pragma once

#include <cstddef>

namespace mpishards {

/// Memory for bulk data, aligned to a cache line; from 8 MiB on it lies in huge pages where the system has
/// them. Not initialised: each page becomes resident for the thread that first writes to it. For std::free.
/// @throws std::bad_alloc
std::byte* allocate_bulk(std::size_t bytes);

}  // namespace mpishards

#pragma once

#include <cstdint>

namespace mpishards::io {

/// Half-open range of queries, rows or bytes.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  friend bool operator==(const Range&, const Range&) = default;
};

}  // namespace mpishards::io

#pragma once

#include <cstddef>
#include <cstdint>

#include "core/topk.hpp"

namespace mpishards::merge {

/// Answers as they travel: one record a query, k int64 ids then k float32 distances, 12 k bytes without
/// padding, so that a run of queries is one run of bytes.
constexpr std::size_t record_bytes(std::int64_t k) {
  return static_cast<std::size_t>(k) * 12;
}

struct Entry {
  GlobalId id = kNoNeighbor;
  float distance = 0;
};

/// Entry i of a record. Records of odd k are not aligned for their ids, so entries are copied out. @pre 0 <=
/// i < k
Entry entry_of(const std::byte* record, std::int64_t k, std::int64_t i);

/// Rows [begin, end) of `rows` as records. @param[out] out (end - begin) * record_bytes(k) bytes
void pack(const TopK& rows, std::int64_t begin, std::int64_t end, std::byte* out);

/// Records to rows [begin, begin + count) of `rows`.
void unpack(const std::byte* in, std::int64_t count, std::int64_t begin, TopK& rows);

/// Merges two records into `into`: the best k of both. @param scratch record_bytes(k) bytes @pre k >= 1
void merge_record(const std::byte* other, std::byte* into, std::int64_t k, Closer closer, std::byte* scratch);

}  // namespace mpishards::merge

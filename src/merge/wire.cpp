#include "merge/wire.hpp"

#include <cstring>

namespace mpishards::merge {

namespace {

constexpr std::size_t kIdBytes = sizeof(GlobalId);
constexpr std::size_t kDistanceBytes = sizeof(float);

}  // namespace

Entry entry_of(const std::byte* record, std::int64_t k, std::int64_t i) {
  Entry entry;
  std::memcpy(&entry.id, record + static_cast<std::size_t>(i) * kIdBytes, kIdBytes);
  std::memcpy(&entry.distance,
              record + static_cast<std::size_t>(k) * kIdBytes + static_cast<std::size_t>(i) * kDistanceBytes,
              kDistanceBytes);
  return entry;
}

void pack(const TopK& rows, std::int64_t begin, std::int64_t end, std::byte* out) {
  const auto k = static_cast<std::size_t>(rows.k());
  for (std::int64_t q = begin; q < end; ++q, out += record_bytes(rows.k())) {
    const ConstNeighborRow row = rows.row(q);
    std::memcpy(out, row.neighbors.data(), k * kIdBytes);
    std::memcpy(out + k * kIdBytes, row.distances.data(), k * kDistanceBytes);
  }
}

void unpack(const std::byte* in, std::int64_t count, std::int64_t begin, TopK& rows) {
  const auto k = static_cast<std::size_t>(rows.k());
  for (std::int64_t q = begin; q < begin + count; ++q, in += record_bytes(rows.k())) {
    const NeighborRow row = rows.row(q);
    std::memcpy(row.neighbors.data(), in, k * kIdBytes);
    std::memcpy(row.distances.data(), in + k * kIdBytes, k * kDistanceBytes);
  }
}

void merge_record(const std::byte* other, std::byte* into, std::int64_t k, Closer closer,
                  std::byte* scratch) {
  std::byte* ids = scratch;
  std::byte* distances = scratch + static_cast<std::size_t>(k) * kIdBytes;
  // Neither list can run out early: k entries are taken from 2 k.
  std::int64_t i = 0;
  std::int64_t j = 0;
  Entry a = entry_of(into, k, 0);
  Entry b = entry_of(other, k, 0);
  for (std::int64_t o = 0; o < k; ++o) {
    const bool take_b = closer(b.id, b.distance, a.id, a.distance);
    const Entry& taken = take_b ? b : a;
    std::memcpy(ids + static_cast<std::size_t>(o) * kIdBytes, &taken.id, kIdBytes);
    std::memcpy(distances + static_cast<std::size_t>(o) * kDistanceBytes, &taken.distance, kDistanceBytes);
    if (o + 1 == k) break;
    if (take_b)
      b = entry_of(other, k, ++j);
    else
      a = entry_of(into, k, ++i);
  }
  std::memcpy(into, scratch, record_bytes(k));
}

}  // namespace mpishards::merge

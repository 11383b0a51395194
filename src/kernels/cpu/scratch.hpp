#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <vector>

#include "core/bulk_memory.hpp"
#include "core/topk.hpp"

namespace mpishards::kernels::cpu {

/// Leaves its elements uninitialised, and so their pages untouched until they are used: by the thread that
/// uses them, and only as far as it does.
template <class T>
struct BulkAllocator {
  static_assert(std::is_trivially_default_constructible_v<T> && std::is_trivially_destructible_v<T>);
  using value_type = T;

  BulkAllocator() = default;
  template <class U>
  explicit BulkAllocator(const BulkAllocator<U>&) {}

  T* allocate(std::size_t count) { return reinterpret_cast<T*>(allocate_bulk(count * sizeof(T))); }
  void deallocate(T* p, std::size_t) { std::free(p); }
  template <class U>
  void construct(U* p) {
    ::new (static_cast<void*>(p)) U;
  }
  template <class U>
  bool operator==(const BulkAllocator<U>&) const {
    return true;
  }
};

/// Scratch memory that may be large.
template <class T>
using BulkVector = std::vector<T, BulkAllocator<T>>;

/// Bytes that a vector holds.
template <class T, class Allocator>
std::size_t bytes_of(const std::vector<T, Allocator>& values) {
  return values.capacity() * sizeof(T);
}

/// Bytes of an answer's ids and distances.
inline std::size_t bytes_of(const TopK& answer) {
  return static_cast<std::size_t>(answer.nq() * answer.k()) * (sizeof(GlobalId) + sizeof(float));
}

/// Resizes scratch memory: what it holds is lost where it grows.
template <class T, class Allocator>
void set_size(std::vector<T, Allocator>& values, std::int64_t size) {
  if (static_cast<std::size_t>(size) > values.capacity())
    std::vector<T, Allocator>().swap(values);  // no copy of old scratch
  values.resize(static_cast<std::size_t>(size));
}

}  // namespace mpishards::kernels::cpu

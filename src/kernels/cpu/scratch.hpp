#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/topk.hpp"

namespace mpishards::kernels::cpu {

/// Bytes that a vector holds.
template <class T>
std::size_t bytes_of(const std::vector<T>& values) {
  return values.capacity() * sizeof(T);
}

/// Bytes of an answer's ids and distances.
inline std::size_t bytes_of(const TopK& answer) {
  return static_cast<std::size_t>(answer.nq() * answer.k()) * (sizeof(GlobalId) + sizeof(float));
}

/// Resizes scratch memory: what it holds is lost where it grows.
template <class T>
void set_size(std::vector<T>& values, std::int64_t size) {
  if (static_cast<std::size_t>(size) > values.capacity())
    std::vector<T>().swap(values);  // no copy of old scratch
  values.resize(static_cast<std::size_t>(size));
}

}  // namespace mpishards::kernels::cpu

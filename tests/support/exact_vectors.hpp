#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// Small integers: every distance is exact in float32 and double, so answers compare bit for bit whatever the
/// order of summation, and many distances are equal.
namespace mpishards::exact_vectors {

inline std::vector<float> make(std::int64_t rows, std::int64_t d, unsigned seed, int low = -8, int high = 8) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> values(low, high);
  std::vector<float> out(static_cast<std::size_t>(rows * d));
  for (float& value : out) value = static_cast<float>(values(random));
  return out;
}

}  // namespace mpishards::exact_vectors

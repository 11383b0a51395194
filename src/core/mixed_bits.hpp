#pragma once

#include <cstdint>

namespace mpishards {

/// A number that looks drawn, another one for every value.
/// @par Source  Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014 (SplitMix64)
constexpr std::uint64_t mixed_bits(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31U);
}

}  // namespace mpishards

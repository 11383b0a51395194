#pragma once

#include <cstddef>
#include <string_view>

namespace mpishards {

/// How many letters must be put in, taken out or replaced to make one text the other (Levenshtein): what a
/// mistyped name was meant to be.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace mpishards

#pragma once

#include <string>
#include <utility>

#include "core/error.hpp"

namespace mpishards {

/// Converts an integer where a library wants another width.
/// @throws Error{internal} if the value does not fit
template <class To, class From>
constexpr To narrow(From value, std::source_location where = std::source_location::current()) {
  if (!std::in_range<To>(value))
    throw Error(ErrorKind::internal, "value " + std::to_string(value) + " does not fit the narrower type",
                where);
  return static_cast<To>(value);
}

}  // namespace mpishards

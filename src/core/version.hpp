#pragma once

#include <string_view>

namespace mpishards {

/// "0.1.0"
std::string_view version();
/// git revision of the build, "-dirty" if the tree had changes, "unknown" outside git
std::string_view revision();
/// "Release", "Debug", ...
std::string_view build_type();

}  // namespace mpishards

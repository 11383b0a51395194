#include "core/version.hpp"

namespace mpishards {

std::string_view version() {
  return MPISHARDS_VERSION;
}
std::string_view revision() {
  return MPISHARDS_REVISION;
}
std::string_view build_type() {
  return MPISHARDS_BUILD_TYPE;
}

}  // namespace mpishards

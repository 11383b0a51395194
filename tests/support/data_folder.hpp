#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace mpishards::test {

/// Folder of the real data sets, which are not part of the repository: MPISHARDS_DATA, or ../shared/data
/// beside the source tree. Empty where there is none; tests then skip.
inline std::optional<std::string> data_folder() {
  const char* given = std::getenv("MPISHARDS_DATA");
  const std::string folder = given != nullptr ? given : MPISHARDS_SOURCE_DIR "/../shared/data";
  if (!std::filesystem::is_directory(folder)) return std::nullopt;
  return folder;
}

}  // namespace mpishards::test

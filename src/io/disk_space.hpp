#pragma once

#include <cstdint>
#include <string>

#include "io/file.hpp"

namespace mpishards::io {

/// @throws Error{cannot_create} "disk full" where a folder's file system has fewer bytes left for this user;
/// one that can't say is taken to have enough
void require_free_space(const std::string& folder, std::int64_t bytes);

/// Makes the file `bytes` long with its blocks reserved, so that a full disk or quota is noticed now. File
/// systems that can't reserve get the length alone.
/// @throws Error{cannot_create}
void reserve(const File& file, std::int64_t bytes);

}  // namespace mpishards::io

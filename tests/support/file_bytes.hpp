#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace mpishards::test {

/// The whole file; empty where there is none.
inline std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

}  // namespace mpishards::test

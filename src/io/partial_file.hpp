#pragma once

#include <string>
#include <utility>

#include "io/file.hpp"

namespace mpishards::io {

/// Move-only owner of a file that is being made: PATH.partial until publish(), gone if it never comes to
/// that.
class PartialFile {
 public:
  PartialFile() = default;
  /// Makes an empty PATH.partial. @throws Error{cannot_create|permission}
  explicit PartialFile(std::string path);
  PartialFile(PartialFile&& other) noexcept
      : path_(std::exchange(other.path_, {})), file_(std::move(other.file_)) {}
  PartialFile& operator=(PartialFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~PartialFile();

  /// The file that is wanted, for messages, and what it is called until it is complete.
  const std::string& path() const { return path_; }
  std::string partial() const;
  const File& file() const { return file_; }

  /// Flushes to disk and renames into place. @throws Error{io|cannot_create}
  void publish();

 private:
  std::string path_;  // empty where there is nothing to remove
  File file_;
};

}  // namespace mpishards::io

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace mpishards::io {

/// Move-only owner of a file descriptor, with whole reads and writes (short counts and EINTR are handled).
class File {
 public:
  File() = default;
  /// @throws Error{input_missing|permission|io}; a directory or a fifo is Error{data}
  static File open_read(const std::string& path);
  /// Opens for reading and writing, creating if needed. @throws Error{cannot_create|permission}
  static File open_write(const std::string& path, bool truncate);

  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::exchange(other.path_, {})) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~File();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }
  std::int64_t size_bytes() const;

  /// @throws Error{io} naming path and offset; Error{data} if the file ends before
  void read_at(std::int64_t offset, void* out, std::size_t bytes) const;
  /// @throws Error{io} ("disk full" by name for ENOSPC and EDQUOT)
  void write_at(std::int64_t offset, const void* data, std::size_t bytes) const;
  /// Data to the device. @throws Error{io}
  void sync() const;
  void close();

 private:
  int fd_ = -1;
  std::string path_;
};

/// Renames and syncs the folder, so that the new name survives a crash. @throws Error{cannot_create}
void publish(const std::string& from, const std::string& to);

/// Whole small text file. @throws Error{input_missing|permission|io}
std::string read_text(const std::string& path);
/// Written beside as .tmp, synced, renamed. @throws Error{cannot_create|io}
void write_text_atomically(const std::string& path, const std::string& text);

bool exists(const std::string& path);

}  // namespace mpishards::io

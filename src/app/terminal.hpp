#pragma once

#include <cstdio>

namespace mpishards::app {

/// The terminal on which a stream ends: the stream itself, or where mpirun shows what it takes from the
/// stream through a pipe.
class Terminal {
 public:
  /// @param stream  open for the life of this object
  explicit Terminal(std::FILE* stream);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Whether someone can watch the stream.
  bool exists() const { return fd_ >= 0; }
  /// Characters a line now; 80 where that is unknown.
  int columns() const;

 private:
  int fd_ = -1;
  bool opened_ = false;
};

}  // namespace mpishards::app

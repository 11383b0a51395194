#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "serve/background_writer.hpp"
#include "serve/observer.hpp"

namespace mpishards::serve {

/// One JSON line for every request: when, who, what, how large, how long and how it ended; never its payload.
///
/// A thread of its own writes the lines in order of completion. On a disk that can't keep up lines are
/// dropped and counted; requests never wait.
class AccessLog final : public Observer {
 public:
  /// @param path      appended to, made with mode 0640 where it is not there
  /// @param capacity  most lines in memory
  /// @throws Error{cannot_create|permission|input_missing}
  explicit AccessLog(std::filesystem::path path, std::size_t capacity = 16384);
  ~AccessLog() override;
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void request_finished(const RequestRecord& record) override;

  /// Opens the path anew before the next line: the old file was rotated away.
  void reopen() { wants_reopen_ = true; }
  /// Waits until all lines so far are with the system.
  void flush() { writer_.flush(); }
  /// Lines that were not written.
  std::int64_t dropped() const { return writer_.dropped() + failed_; }

 private:
  void write(const std::vector<std::string>& lines);

  const std::filesystem::path path_;
  int file_;
  bool is_line_cut_ = false;  // by a full disk: the next line starts on one of its own
  std::atomic<bool> wants_reopen_ = false;
  std::atomic<std::int64_t> failed_ = 0;
  BackgroundWriter<std::string> writer_;  // last: its thread uses the file
};

/// The line of a request, without the line feed.
std::string access_log_line(const RequestRecord& record, std::chrono::system_clock::time_point end);

}  // namespace mpishards::serve

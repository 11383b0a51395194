#pragma once

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "app/terminal.hpp"
#include "rank/search_job.hpp"

namespace mpishards::app {

/// "[=====>    ]  52.3 %  12345 queries/s  ETA 0:42", at most `width` characters.
std::string progress_bar(const rank::Progress& progress, int width);
/// The same numbers as one sentence for logs.
std::string progress_line(const rank::Progress& progress);
/// "0:42", "1:02:03", "2 d 01:02:03"
std::string format_duration(double seconds);

/// Shows how far a job is: a bar where `stream` is a terminal, else a line every 10 s; and
/// OUT.heartbeat.json, replaced atomically every 2 s, for whoever wants to know whether the job still lives.
/// A thread of its own keeps them fresh however long a batch takes. Used by rank 0 alone.
class ProgressDisplay {
 public:
  enum class Style : unsigned char { none, bar, lines };
  /// none when quiet; bar on a terminal, also behind mpirun; else lines.
  static Style style_for(std::FILE* stream, bool quiet);

  ProgressDisplay(std::string out_path, Style style, std::FILE* stream);

  /// Of a job that failed: ends the bar's line, so that the error message stands on its own, and removes the
  /// heartbeat.
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  /// Writes the first heartbeat and starts the clock; to be called when the job owns its output, not before.
  /// A heartbeat that can't be written is reported once and then left alone: the job is worth more.
  void begin(const rank::Progress& progress);
  void update(const rank::Progress& progress);
  /// Stops the clock and ends the bar's line. @param finished  true: the heartbeat file is removed; false
  /// (stopped): it stays, saying so
  void end(bool finished);

 private:
  void end_bar();
  void run_clock(const std::stop_token& stop);
  rank::Progress present() const;
  void show();
  void write_heartbeat(const char* phase, const rank::Progress& progress);

  std::string heartbeat_path_;
  Style style_;
  std::FILE* stream_;
  Terminal terminal_;
  bool heartbeat_broken_ = false;  // touched by the clock's thread while that runs

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any wake_;
  rank::Progress last_;
  double last_seconds_ = 0;  // when that was true
  double last_line_seconds_ = 0;
  bool bar_open_ = false;

  std::jthread clock_;  // started by begin
};

}  // namespace mpishards::app

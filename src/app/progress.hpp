#pragma once

#include <cstdio>
#include <string>

#include "rank/search_job.hpp"

namespace mpishards::app {

/// "[=====>    ]  52.3 %  12345 queries/s  ETA 0:42", at most `width` characters.
std::string progress_bar(const rank::Progress& progress, int width);
/// The same numbers as one sentence for logs.
std::string progress_line(const rank::Progress& progress);
/// "0:42", "1:02:03", "2 d 01:02:03"
std::string format_duration(double seconds);

/// Shows how far a job is: a bar where `stream` is a terminal, else a line every 10 s; and
/// OUT.heartbeat.json, replaced atomically, for whoever wants to know whether the job still lives. Used by
/// rank 0 alone.
class ProgressDisplay {
 public:
  enum class Style : unsigned char { none, bar, lines };
  /// none when quiet; bar on a terminal; else lines.
  static Style style_for(std::FILE* stream, bool quiet);

  ProgressDisplay(std::string out_path, Style style, std::FILE* stream);

  /// Ends the bar's line, so that an error message stands on its own.
  ~ProgressDisplay() { end_bar(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  /// A heartbeat that can't be written is reported once and then left alone: the job is worth more.
  void update(const rank::Progress& progress);
  /// Ends the bar's line. @param finished  true: the heartbeat file is removed; false (stopped): it stays,
  /// saying so
  void end(bool finished);

 private:
  void end_bar();
  void show(const rank::Progress& progress);
  void write_heartbeat(const char* phase);

  std::string heartbeat_path_;
  Style style_;
  std::FILE* stream_;
  rank::Progress last_;
  double last_line_seconds_ = 0;
  double last_heartbeat_seconds_ = 0;
  bool bar_open_ = false;
  bool heartbeat_written_ = false;
  bool heartbeat_broken_ = false;
};

}  // namespace mpishards::app

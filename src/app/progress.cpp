#include "app/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/timer.hpp"
#include "io/file.hpp"
#include "rank/host_info.hpp"

namespace mpishards::app {

namespace {

constexpr double kSecondsBetweenLines = 10;
constexpr double kSecondsBetweenHeartbeats = 2;
constexpr int kBarCells = 30;

double fraction_done(const rank::Progress& progress) {
  if (progress.queries_total <= 0) return 0;
  return std::clamp(static_cast<double>(progress.queries_done) / static_cast<double>(progress.queries_total),
                    0.0, 1.0);
}

std::string numbers(const rank::Progress& progress) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), "%5.1f %%  %.0f queries/s  ETA %s", 100 * fraction_done(progress),
                progress.queries_per_second, format_duration(progress.eta_seconds).c_str());
  std::string result = text.data();
  if (progress.groups_total > 1)
    result += "  group " + std::to_string(std::min(progress.groups_done + 1, progress.groups_total)) + "/" +
              std::to_string(progress.groups_total);
  return result;
}

int columns_of(std::FILE* stream) {
  winsize size = {};
  const bool known = ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "unknown";
  const auto whole = static_cast<long>(std::ceil(seconds));
  const long days = whole / 86400;
  const long hours = whole / 3600 % 24;
  const long minutes = whole / 60 % 60;
  std::array<char, 48> text{};
  if (days > 0)
    std::snprintf(text.data(), text.size(), "%ld d %02ld:%02ld:%02ld", days, hours, minutes, whole % 60);
  else if (hours > 0)
    std::snprintf(text.data(), text.size(), "%ld:%02ld:%02ld", hours, minutes, whole % 60);
  else
    std::snprintf(text.data(), text.size(), "%ld:%02ld", minutes, whole % 60);
  return text.data();
}

std::string progress_bar(const rank::Progress& progress, int width) {
  const auto full = static_cast<std::size_t>(fraction_done(progress) * kBarCells);
  std::string bar(full, '=');
  if (bar.size() < kBarCells) bar += '>';
  bar.resize(kBarCells, ' ');
  const std::string text = "[" + bar + "] " + numbers(progress);
  return text.substr(0, static_cast<std::size_t>(std::max(width, 1)));
}

std::string progress_line(const rank::Progress& progress) {
  return "progress " + std::to_string(progress.queries_done) + " of " +
         std::to_string(progress.queries_total) + " queries, " + numbers(progress);
}

ProgressDisplay::Style ProgressDisplay::style_for(std::FILE* stream, bool quiet) {
  if (quiet) return Style::none;
  return isatty(fileno(stream)) != 0 ? Style::bar : Style::lines;
}

ProgressDisplay::ProgressDisplay(std::string out_path, Style style, std::FILE* stream)
    : heartbeat_path_(std::move(out_path) + ".heartbeat.json"),
      style_(style),
      stream_(stream),
      last_line_seconds_(steady_seconds()) {}

void ProgressDisplay::update(const rank::Progress& progress) {
  last_ = progress;
  show(progress);
  const double now = steady_seconds();
  if (heartbeat_written_ && now - last_heartbeat_seconds_ < kSecondsBetweenHeartbeats) return;
  last_heartbeat_seconds_ = now;
  write_heartbeat("searching");
}

void ProgressDisplay::show(const rank::Progress& progress) {
  if (style_ == Style::bar) {
    const int width = columns_of(stream_) - 1;
    std::fprintf(stream_, "\r%-*s", width, progress_bar(progress, width).c_str());
    std::fflush(stream_);
    bar_open_ = true;
  } else if (style_ == Style::lines && steady_seconds() - last_line_seconds_ >= kSecondsBetweenLines) {
    last_line_seconds_ = steady_seconds();
    std::fprintf(stream_, "%s\n", progress_line(progress).c_str());
    std::fflush(stream_);
  }
}

void ProgressDisplay::end_bar() {
  if (bar_open_) std::fputc('\n', stream_);
  bar_open_ = false;
}

void ProgressDisplay::end(bool finished) {
  end_bar();
  if (finished)
    unlink(heartbeat_path_.c_str());
  else
    write_heartbeat("stopped");
}

void ProgressDisplay::write_heartbeat(const char* phase) {
  if (heartbeat_broken_) return;
  const nlohmann::json heartbeat = {{"schema", "mpishards.heartbeat/1"},
                                    {"time", utc_now()},
                                    {"host", rank::host_name()},
                                    {"pid", getpid()},
                                    {"phase", phase},
                                    {"queries_done", last_.queries_done},
                                    {"queries_total", last_.queries_total},
                                    {"groups_done", last_.groups_done},
                                    {"groups_total", last_.groups_total},
                                    {"elapsed_seconds", last_.elapsed_seconds},
                                    {"queries_per_second", last_.queries_per_second},
                                    {"eta_seconds", last_.eta_seconds}};
  try {
    io::write_text_atomically(heartbeat_path_, heartbeat.dump() + "\n");
    heartbeat_written_ = true;
  } catch (const Error& error) {
    heartbeat_broken_ = true;
    if (style_ != Style::none) std::fprintf(stream_, "mpishards: no heartbeat: %s\n", error.what());
  }
}

}  // namespace mpishards::app

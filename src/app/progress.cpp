#include "app/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>

#include "core/timer.hpp"
#include "io/file.hpp"
#include "rank/host_info.hpp"
#include "rank/job_attributes.hpp"

namespace mpishards::app {

namespace {

constexpr double kSecondsBetweenLines = 10;
constexpr std::chrono::seconds kTick(1);
constexpr int kTicksBetweenHeartbeats = 2;
constexpr int kBarCells = 30;

double fraction_done(const rank::Progress& progress) {
  if (progress.queries_total <= 0) return 0;
  return std::clamp(static_cast<double>(progress.queries_done) / static_cast<double>(progress.queries_total),
                    0.0, 1.0);
}

std::string numbers(const rank::Progress& progress) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), "%5.1f %%  %.0f %s/s  ETA %s", 100 * fraction_done(progress),
                progress.queries_per_second, std::string(progress.unit).c_str(),
                format_duration(progress.eta_seconds).c_str());
  std::string result = text.data();
  if (progress.groups_total > 1)
    result += "  group " + std::to_string(std::min(progress.groups_done + 1, progress.groups_total)) + "/" +
              std::to_string(progress.groups_total);
  return result;
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
         std::to_string(progress.queries_total) + " " + std::string(progress.unit) + ", " + numbers(progress);
}

ProgressDisplay::Style ProgressDisplay::style_for(std::FILE* stream, bool quiet) {
  if (quiet) return Style::none;
  return Terminal(stream).exists() ? Style::bar : Style::lines;
}

ProgressDisplay::ProgressDisplay(std::string out_path, Style style, std::FILE* stream)
    : heartbeat_path_(std::move(out_path) + ".heartbeat.json"),
      style_(style),
      stream_(stream),
      terminal_(stream),
      last_line_seconds_(steady_seconds()) {}

ProgressDisplay::~ProgressDisplay() {
  if (clock_.joinable()) end(true);
}

void ProgressDisplay::begin(const rank::Progress& progress) {
  last_ = progress;
  last_seconds_ = steady_seconds();
  write_heartbeat("searching", progress);
  clock_ = std::jthread([this](const std::stop_token& stop) { run_clock(stop); });
}

void ProgressDisplay::update(const rank::Progress& progress) {
  const std::lock_guard lock(mutex_);
  last_ = progress;
  last_seconds_ = steady_seconds();
  show();
}

void ProgressDisplay::run_clock(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  for (int tick = 1;; ++tick) {
    wake_.wait_for(lock, stop, kTick, [] { return false; });
    if (stop.stop_requested()) return;
    show();
    if (tick % kTicksBetweenHeartbeats != 0) continue;
    const rank::Progress now = present();
    lock.unlock();  // a slow file system must not hold up the search
    write_heartbeat("searching", now);
    lock.lock();
  }
}

/// The last known numbers, with the time that has passed since.
rank::Progress ProgressDisplay::present() const {
  rank::Progress now = last_;
  const double passed = steady_seconds() - last_seconds_;
  now.elapsed_seconds += passed;
  if (!std::isnan(now.eta_seconds)) now.eta_seconds = std::max(0.0, now.eta_seconds - passed);
  return now;
}

void ProgressDisplay::show() {
  if (style_ == Style::bar) {
    const int width = terminal_.columns() - 1;
    std::fprintf(stream_, "\r%-*s", width, progress_bar(present(), width).c_str());
    std::fflush(stream_);
    bar_open_ = true;
  } else if (style_ == Style::lines && steady_seconds() - last_line_seconds_ >= kSecondsBetweenLines) {
    last_line_seconds_ = steady_seconds();
    std::fprintf(stream_, "%s\n", progress_line(present()).c_str());
    std::fflush(stream_);
  }
}

void ProgressDisplay::end_bar() {
  if (bar_open_) std::fputc('\n', stream_);
  bar_open_ = false;
}

void ProgressDisplay::end(bool finished) {
  if (clock_.joinable()) {
    clock_.request_stop();
    clock_.join();
  }
  end_bar();
  if (finished)
    unlink(heartbeat_path_.c_str());
  else
    write_heartbeat("stopped", present());
}

void ProgressDisplay::write_heartbeat(const char* phase, const rank::Progress& progress) {
  if (heartbeat_broken_) return;
  const nlohmann::json heartbeat = {{"schema", "mpishards.heartbeat/1"},
                                    {"time", rank::utc_now()},
                                    {"host", rank::host_name()},
                                    {"pid", getpid()},
                                    {"phase", phase},
                                    {"unit", progress.unit},
                                    {"queries_done", progress.queries_done},
                                    {"queries_total", progress.queries_total},
                                    {"groups_done", progress.groups_done},
                                    {"groups_total", progress.groups_total},
                                    {"elapsed_seconds", progress.elapsed_seconds},
                                    {"queries_per_second", progress.queries_per_second},
                                    {"eta_seconds", progress.eta_seconds}};
  try {
    io::write_text_atomically(heartbeat_path_, heartbeat.dump() + "\n");
  } catch (const std::exception& error) {
    heartbeat_broken_ = true;
    if (style_ != Style::none) std::fprintf(stream_, "mpishards: no heartbeat: %s\n", error.what());
  }
}

}  // namespace mpishards::app

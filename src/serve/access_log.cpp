#include "serve/access_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "serve/status.hpp"
#include "serve/trace_context.hpp"

namespace mpishards::serve {
namespace {

int open_log(const std::filesystem::path& path) {
  return ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

int open_log_or_throw(const std::filesystem::path& path) {
  const int file = open_log(path);
  if (file >= 0) return file;
  const int reason = errno;
  throw Error(
      kind_of_errno(reason, ErrorKind::cannot_create),
      path.string() + ": can't open the access log (" + std::strerror(reason) + "); name another file");
}

/// A text that a client chose.
std::string chosen(std::string_view text) {
  constexpr std::size_t kMostBytes = 256;
  return shortened(text, kMostBytes);
}

/// 2026-01-31T12:34:56.789Z
std::string utc(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time).time_since_epoch().count();
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 40> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string fraction = std::to_string(1000 + ms % 1000);
  fraction[0] = '.';
  return std::string(text.data(), length) + fraction + "Z";
}

double microseconds(double seconds) {
  return std::round(seconds * 1e6) / 1e6;
}

/// Of the batches that answered a request: all of their time, and their search on the slowest rank.
struct EngineSeconds {
  double batches = 0;
  double search = 0;
};

EngineSeconds engine_seconds(const RequestRecord& record) {
  EngineSeconds seconds;
  for (const auto& batch : record.batches) {
    seconds.batches += batch->total_seconds;
    if (!batch->search_seconds.empty()) seconds.search += std::ranges::max(batch->search_seconds);
  }
  return seconds;
}

}  // namespace

std::string access_log_line(const RequestRecord& record, std::chrono::system_clock::time_point end) {
  const RequestContext& context = *record.context;
  const EngineSeconds engine = engine_seconds(record);
  nlohmann::ordered_json line = {
      {"time", utc(end)},
      {"trace_id", trace_of(context).trace_id},
      {"front", context.front},
      {"method", chosen(context.method)},
      {"collection", chosen(record.collection)},
      {"nq", record.queries},
      {"k", record.k},
      {"status", to_string(record.status.code)},
      {"seconds", microseconds(record.total_seconds)},
      {"queue_seconds", microseconds(record.queue_seconds)},
      {"batch_seconds", microseconds(engine.batches)},
      {"search_seconds", microseconds(engine.search)},
      {"request_bytes", context.request_bytes},
      {"answer_bytes", record.answer_bytes},
      {"peer", chosen(context.peer)},
  };
  if (!context.request_id.empty()) line["request_id"] = chosen(context.request_id);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

AccessLog::AccessLog(std::filesystem::path path, std::size_t capacity)
    : path_(std::move(path)),
      file_(open_log_or_throw(path_)),
      writer_(capacity, std::chrono::milliseconds(100),
              [this](const std::vector<std::string>& lines) { write(lines); }) {}

AccessLog::~AccessLog() {
  writer_.flush();
  ::close(file_);
}

void AccessLog::request_finished(const RequestRecord& record) {
  writer_.push(access_log_line(record, std::chrono::system_clock::now()));
}

void AccessLog::write(const std::vector<std::string>& lines) {
  if (wants_reopen_.exchange(false)) {
    if (const int fresh = open_log(path_); fresh >= 0) {
      ::close(file_);
      file_ = fresh;
    }
  }
  std::string text = std::exchange(is_line_cut_, false) ? "\n" : "";
  for (const std::string& line : lines) text += line + '\n';
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(file_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += static_cast<std::size_t>(written);
  }
  failed_ += std::count(text.begin() + static_cast<std::ptrdiff_t>(done), text.end(), '\n');
  is_line_cut_ = done > 0 && done < text.size() && text[done - 1] != '\n';
}

}  // namespace mpishards::serve

#include "rank/rank_log.hpp"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "rank/host_info.hpp"

namespace mpishards::rank {

namespace {

constexpr std::size_t kFileBytes = std::size_t{16} << 20;
constexpr std::size_t kOldFiles = 3;

/// Members of an object without its braces: the time and level come from the logger's pattern.
std::string members_of(const nlohmann::json& object) {
  const std::string text = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

}  // namespace

RankLog::RankLog(const std::string& folder, int rank) : rank_(rank), host_(host_name()) {
  if (folder.empty()) return;
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "rank-%05d.jsonl", rank);
  try {
    std::filesystem::create_directories(folder);
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_st>(
        (std::filesystem::path(folder) / name.data()).string(), kFileBytes, kOldFiles);
    logger_ = std::make_shared<spdlog::logger>("rank", std::move(sink));
  } catch (const std::exception& error) {
    throw Error(ErrorKind::cannot_create, "can't write logs into " + folder + ": " + error.what());
  }
  logger_->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%v})", spdlog::pattern_time_type::utc);
  logger_->flush_on(spdlog::level::info);
}

nlohmann::json RankLog::line_of(std::string_view event, const nlohmann::json& fields) const {
  nlohmann::json line = fields;
  line.update({{"event", event}, {"rank", rank_}, {"host", host_}});
  return line;
}

void RankLog::info(std::string_view event, const nlohmann::json& fields) const {
  if (logger_) logger_->info(members_of(line_of(event, fields)));
}

void RankLog::error(std::string_view event, const nlohmann::json& fields) const {
  if (logger_) logger_->error(members_of(line_of(event, fields)));
}

}  // namespace mpishards::rank

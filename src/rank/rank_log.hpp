#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace spdlog {
class logger;
}

namespace mpishards::rank {

/// What one rank did and when: JSON lines in FOLDER/rank-00017.jsonl, at most four files of 16 MiB each.
///
/// Every line has time (UTC), level, rank, host and event; what else an event tells stands beside them. Lines
/// are flushed as they are written, so that the last one before a crash is there.
class RankLog {
 public:
  /// Writes nothing.
  RankLog() = default;
  /// @param folder  made if needed; empty: nothing is written @throws Error{cannot_create}
  RankLog(const std::string& folder, int rank);

  /// @param fields  a JSON object
  void info(std::string_view event, const nlohmann::json& fields) const;
  void error(std::string_view event, const nlohmann::json& fields) const;

 private:
  nlohmann::json line_of(std::string_view event, const nlohmann::json& fields) const;

  std::shared_ptr<spdlog::logger> logger_;
  int rank_ = 0;
  std::string host_;
};

}  // namespace mpishards::rank

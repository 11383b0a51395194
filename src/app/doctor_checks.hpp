#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mpishards::app {

enum class Level : std::uint8_t { ok, warn, fail };
/// "OK", "WARN", "FAIL"
std::string_view to_string(Level level);

/// One fact about a rank, and what it means for a search.
struct Check {
  std::string name;
  Level level = Level::ok;
  std::string value;
  std::string remedy;            // empty where nothing needs to be done
  bool same_everywhere = false;  // ranks that differ in it are worth a warning
};

/// What a rank knows of its job before it looks at its machine.
struct JobFacts {
  int n_ranks = 1;
  int local_ranks = 1;  // on this host
  int threads = 1;      // of each rank
  std::filesystem::path folder;
};

/// Every check of this rank, in a fixed order: the same names on every rank. Does not communicate.
std::vector<Check> run_checks(const JobFacts& job);

/// One check as all ranks answered it.
struct JobCheck {
  struct Answer {
    Check check;
    std::vector<int> ranks;  // that gave it, ascending
  };
  std::string name;
  Level level = Level::ok;
  std::vector<Answer> answers;  // distinct ones, in the order of their lowest rank
};

/// Groups equal answers; ranks that differ where they should not raise the level to warn.
/// @param by_rank  run_checks of every rank
std::vector<JobCheck> compare_checks(const std::vector<std::vector<Check>>& by_rank);

Level worst_level(const std::vector<JobCheck>& checks);

/// One line a check, more where ranks differ.
std::string doctor_text(const std::vector<JobCheck>& checks, int n_ranks);
/// Schema "mpishards.doctor/1".
nlohmann::json doctor_json(const std::vector<JobCheck>& checks, int n_ranks);

/// "0-2, 5"
std::string format_ranks(const std::vector<int>& ranks);

/// Checks as text and back, for gathering.
std::string serialize(const std::vector<Check>& checks);
std::vector<Check> deserialize_checks(const std::string& text);

}  // namespace mpishards::app

#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "rank/build_job.hpp"

namespace mpishards::app {

/// For people: lists, seconds a step, bytes.
std::string build_report_text(const rank::SearchJobConfig& config, const rank::BuildSummary& summary);

/// Schema "mpishards.build/1"; docs/index-format.md lists the fields.
nlohmann::json build_report_json(const rank::SearchJobConfig& config, const rank::BuildSummary& summary);

/// Schema "mpishards.build-plan/1": what --dry-run prints.
nlohmann::json build_plan_json(const rank::PreparedBuild& prepared);

}  // namespace mpishards::app

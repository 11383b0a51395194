#pragma once

#include <nlohmann/json.hpp>

#include "rank/job_plan.hpp"

namespace mpishards::app {

/// A plan for machines, schema "mpishards.plan/1".
nlohmann::json plan_json(const rank::JobPlan& plan, const rank::JobShape& shape);

}  // namespace mpishards::app

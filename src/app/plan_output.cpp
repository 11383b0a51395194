#include "app/plan_output.hpp"

namespace mpishards::app {

nlohmann::json plan_json(const rank::JobPlan& plan, const rank::JobShape& shape) {
  nlohmann::json memory = nlohmann::json::array();
  for (const rank::MemoryItem& item : plan.memory)
    memory.push_back({{"name", item.name}, {"bytes", item.bytes}});
  return {
      {"schema", "mpishards.plan/1"},
      {"shape",
       {{"rows", shape.rows},
        {"d", shape.d},
        {"dtype", to_string(shape.dtype)},
        {"queries", shape.nq},
        {"k", shape.k},
        {"ranks", shape.n_ranks},
        {"weights", shape.weights},
        {"threads", shape.threads}}},
      {"groups", plan.groups},
      {"rows_per_group", plan.rows_per_group},
      {"rows_per_rank", plan.rows_per_rank},
      {"passes", plan.passes},
      {"queries_per_pass", plan.queries_per_pass},
      {"batch", plan.batch},
      {"memory", memory},
      {"memory_bytes", plan.memory_bytes},
      {"cluster_bytes", plan.cluster_bytes},
      {"memory_limit_bytes", plan.memory_limit_bytes},
      {"read_bytes", plan.read_bytes},
      {"result_bytes", plan.result_bytes},
      {"scratch_bytes", plan.scratch_bytes},
      {"flops", plan.flops},
      {"search_seconds", plan.search_seconds},
      {"read_seconds", plan.read_seconds},
  };
}

}  // namespace mpishards::app

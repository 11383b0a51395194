#include "rank/job_engine.hpp"

#include "core/error.hpp"
#include "kernels/index.hpp"
#include "rank/shard_map.hpp"

namespace mpishards::rank {

namespace {

/// Only a base that stays in memory leaves every list where it is.
bool lists_stay(const JobInputs& inputs, const JobPlan& plan) {
  return inputs.lists && plan.groups == 1;
}

RouterContext router_context(const JobInputs& inputs, const JobShape& shape, const JobPlan& plan) {
  RouterContext context{.n_ranks = shape.n_ranks, .lists_of_rank = {}};
  if (!lists_stay(inputs, plan)) return context;
  const ShardMap shards = shape.shards(inputs.base_rows);
  for (int rank = 0; rank < shape.n_ranks; ++rank) {
    const io::Range rows = shards.shard(rank);
    context.lists_of_rank.push_back(rows.begin < rows.end ? inputs.lists->lists_in(rows) : io::Range{});
  }
  return context;
}

std::string router_name(const SearchJobConfig& config, const JobInputs& inputs, const JobPlan& plan) {
  if (config.router != "auto") return config.router;
  return lists_stay(inputs, plan) ? "lists" : "all";
}

/// What the CPU engine alone can search; empty where all engines can.
std::string cpu_task(const SearchJobConfig& config, const JobInputs& inputs) {
  if (config.range) return "range and join are";
  if (inputs.codes) return "an index with codes is";
  return inputs.has_faiss ? "an index of FAISS is" : "";
}

}  // namespace

std::string engine_of(const SearchJobConfig& config, const JobInputs& inputs) {
  std::string engine = kernels::resolve_engine(config.engine);
  const std::string task = engine == "cpu" ? "" : cpu_task(config, inputs);
  if (!task.empty())
    throw Error(ErrorKind::unavailable,
                task + " searched by the CPU alone, not by the engine " + engine + "; use --engine cpu");
  return engine;
}

SearchEngineConfig engine_config(const SearchJobConfig& config, const JobInputs& inputs,
                                 const JobShape& shape, const JobPlan& plan) {
  return {.metric = config.metric,
          .index = config.index,
          .engine = engine_of(config, inputs),
          .merge = config.merge,
          .router = router_name(config, inputs, plan),
          .options = {.threads = shape.own_threads,
                      .isa = config.isa,
                      .device = inputs.device.device,
                      .device_ranks = inputs.device.ranks},
          .routing = router_context(inputs, shape, plan),
          .lists = inputs.lists ? &*inputs.lists : nullptr,
          .has_faiss = inputs.has_faiss};
}

}  // namespace mpishards::rank

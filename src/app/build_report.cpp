#include "app/build_report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "app/report.hpp"

namespace mpishards::app {

namespace {

constexpr std::array<rank::BuildStep, rank::kBuildSteps> kSteps = {
    rank::BuildStep::training, rank::BuildStep::assignment, rank::BuildStep::placing,
    rank::BuildStep::encoding, rank::BuildStep::indexing,   rank::BuildStep::verifying};

double seconds_of(const rank::BuildSummary& summary, rank::BuildStep step) {
  return summary.step_seconds[static_cast<std::size_t>(step)];
}

std::int64_t peak_bytes(const rank::BuildSummary& summary) {
  std::int64_t peak = 0;
  for (const rank::RankReport& report : summary.ranks) peak = std::max(peak, report.peak_rss_bytes);
  return peak;
}

std::string lists_text(const rank::BuildSummary& summary) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(),
                "lists     %lld: smallest %lld, median %lld, largest %lld rows; imbalance %.2f\n",
                static_cast<long long>(summary.plan.spec.nlist),
                static_cast<long long>(summary.lists.smallest), static_cast<long long>(summary.lists.median),
                static_cast<long long>(summary.lists.largest), summary.lists.imbalance);
  return text.data();
}

nlohmann::json ranks_json(const rank::BuildSummary& summary) {
  nlohmann::json rows = nlohmann::json::array();
  for (const rank::RankReport& report : summary.ranks)
    rows.push_back({{"rank", report.rank},
                    {"host", report.host},
                    {"threads", report.threads},
                    {"rows", report.rows},
                    {"bytes_read", report.bytes_read},
                    {"peak_rss_bytes", report.peak_rss_bytes}});
  return rows;
}

}  // namespace

std::string build_report_text(const rank::SearchJobConfig& config, const rank::BuildSummary& summary) {
  std::string text = config.output + ": " + std::to_string(summary.shape.rows) + " x " +
                     std::to_string(summary.shape.d) + " rows, index " + config.index + ", " +
                     std::string(to_string(config.metric)) + ", in " + format_seconds(summary.wall_seconds) +
                     "\n";
  if (summary.plan.spec.has_lists()) text += lists_text(summary);
  for (const rank::BuildStep step : kSteps) {
    std::string name(to_string(step));
    name.resize(10, ' ');
    if (seconds_of(summary, step) > 0)
      text += name + (name.back() == ' ' ? "" : " ") + format_seconds(seconds_of(summary, step)) + "\n";
  }
  text += "disk      " + rank::format_bytes(summary.index_bytes) + " in " +
          std::to_string(summary.plan.files.n_shards) + " shard(s)\n";
  return text + "memory    " + rank::format_bytes(peak_bytes(summary)) +
         " at most a rank (program included), " + rank::format_bytes(summary.plan.memory_bytes) +
         " planned\n";
}

nlohmann::json build_report_json(const rank::SearchJobConfig& config, const rank::BuildSummary& summary) {
  nlohmann::json seconds = nlohmann::json::object();
  for (const rank::BuildStep step : kSteps) seconds[std::string(to_string(step))] = seconds_of(summary, step);
  return {{"schema", "mpishards.build/1"},
          {"output", config.output},
          {"index", config.index},
          {"metric", to_string(config.metric)},
          {"stopped", summary.stopped},
          {"rows", summary.shape.rows},
          {"d", summary.shape.d},
          {"dtype", to_string(summary.shape.dtype)},
          {"lists",
           {{"count", summary.plan.spec.nlist},
            {"smallest", summary.lists.smallest},
            {"median", summary.lists.median},
            {"largest", summary.lists.largest},
            {"imbalance", summary.lists.imbalance}}},
          {"training_rows", summary.plan.training_rows},
          {"iterations", summary.plan.iterations},
          {"shards", summary.plan.files.n_shards},
          {"index_bytes", summary.index_bytes},
          {"wall_seconds", summary.wall_seconds},
          {"step_seconds", seconds},
          {"memory_bytes", summary.plan.memory_bytes},
          {"peak_rss_bytes", peak_bytes(summary)},
          {"resumes", summary.resumes},
          {"warnings", summary.warnings},
          {"ranks", ranks_json(summary)}};
}

nlohmann::json build_plan_json(const rank::PreparedBuild& prepared) {
  const rank::BuildPlan& plan = prepared.plan;
  nlohmann::json memory = nlohmann::json::array();
  for (const rank::MemoryItem& item : plan.memory)
    memory.push_back({{"name", item.name}, {"bytes", item.bytes}});
  return {{"schema", "mpishards.build-plan/1"},
          {"rows", prepared.shape.rows},
          {"d", prepared.shape.d},
          {"dtype", to_string(prepared.shape.dtype)},
          {"ranks", prepared.shape.n_ranks},
          {"threads", prepared.shape.threads},
          {"type", plan.spec.type},
          {"codec", plan.spec.codec},
          {"code_bytes", plan.files.codes.code_bytes},
          {"nlist", plan.spec.nlist},
          {"metric", to_string(plan.metric)},
          {"training_rows", plan.training_rows},
          {"iterations", plan.iterations},
          {"shards", plan.files.n_shards},
          {"assign_block", plan.assign_block},
          {"place_block", plan.place_block},
          {"codec_rows", plan.codec_rows},
          {"factory", plan.spec.factory},
          {"builders", plan.builders},
          {"faiss_bytes", plan.faiss_bytes},
          {"encode_block", plan.encode_block},
          {"memory", memory},
          {"memory_bytes", plan.memory_bytes},
          {"memory_limit_bytes", plan.memory_limit_bytes},
          {"index_bytes", plan.index_bytes},
          {"scratch_bytes", plan.scratch_bytes},
          {"training_flops", plan.training_flops},
          {"assignment_flops", plan.assignment_flops},
          {"warnings", prepared.warnings}};
}

}  // namespace mpishards::app

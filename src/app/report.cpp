#include "app/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/version.hpp"

namespace mpishards::app {

namespace {

constexpr std::array<Phase, kPhases> kPhaseOrder = {Phase::read,  Phase::scatter, Phase::search, Phase::merge,
                                                    Phase::write, Phase::wait,    Phase::other};

template <class... Args>
std::string format(const char* pattern, Args... args) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), pattern, args...);
  return text.data();
}

double seconds_in(const rank::RankReport& report, Phase phase) {
  return report.phase_seconds[static_cast<std::size_t>(phase)];
}

double ratio(double numerator, double denominator) {
  return denominator > 0 ? numerator / denominator : 0;
}

PhaseRow phase_row(Phase phase, const rank::SearchSummary& summary) {
  PhaseRow row;
  row.phase = phase;
  if (summary.ranks.empty()) return row;
  row.min_seconds = seconds_in(summary.ranks.front(), phase);
  row.max_seconds = row.min_seconds;
  row.slowest_rank = summary.ranks.front().rank;
  double sum = 0;
  for (const rank::RankReport& report : summary.ranks) {
    const double seconds = seconds_in(report, phase);
    sum += seconds;
    row.min_seconds = std::min(row.min_seconds, seconds);
    if (seconds > row.max_seconds) {
      row.max_seconds = seconds;
      row.slowest_rank = report.rank;
    }
  }
  row.mean_seconds = sum / static_cast<double>(summary.ranks.size());
  row.share = ratio(row.mean_seconds, summary.wall_seconds);
  return row;
}

std::string inputs_text(const std::vector<io::InputSpec>& specs) {
  constexpr std::size_t kNamed = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(specs.size(), kNamed); ++i)
    text += (i > 0 ? ", " : "") + io::to_string(specs[i]);
  if (specs.size() > kNamed) text += format(" and %zu more", specs.size() - kNamed);
  return text;
}

std::string search_rate_text(const rank::SearchSummary& summary, const ReportNumbers& n) {
  std::string text = "search    " + (summary.shape.codec ? with_prefix(n.codes_per_second, "codes/s")
                                                         : with_prefix(n.flops_per_second, "FLOP/s"));
  if (n.roof_flops_per_second > 0)
    text += ", " + format_percent(n.roof_share) + " of the roof (" +
            with_prefix(n.roof_flops_per_second, "FLOP/s") +
            ", multiply-adds in registers, measured at start-up)";
  return text + "\n";
}

std::string headline_text(const rank::SearchSummary& summary, const ReportNumbers& n) {
  std::string text =
      format("%lld queries in %s: %.1f queries/s\n", static_cast<long long>(summary.queries_done),
             format_seconds(summary.wall_seconds).c_str(), n.queries_per_second);
  if (!summary.shape.faiss) text += search_rate_text(summary, n);
  if (summary.pure_read_seconds > 0)
    text += format("overhead  %s above the pure-read floor of %s (%.4g times that)\n",
                   format_seconds(summary.wall_seconds - summary.pure_read_seconds).c_str(),
                   format_seconds(summary.pure_read_seconds).c_str(), n.read_overhead);
  return text;
}

std::string phase_table(const rank::SearchSummary& summary, const ReportNumbers& n) {
  std::string text = "phase          min s     mean s      max s  slowest rank   share of wall\n";
  double mean_sum = 0;
  for (const PhaseRow& row : n.phases) {
    mean_sum += row.mean_seconds;
    text += format("%-9s %10.3f %10.3f %10.3f %13d %14s\n", std::string(to_string(row.phase)).c_str(),
                   row.min_seconds, row.mean_seconds, row.max_seconds, row.slowest_rank,
                   format_percent(row.share).c_str());
  }
  text += format("%-9s %10s %10.3f %10s %13s %14s\n", "sum", "", mean_sum, "", "",
                 format_percent(ratio(mean_sum, summary.wall_seconds)).c_str());
  return text;
}

std::string rank_table(const rank::SearchSummary& summary) {
  std::string text =
      " rank host                     rows  threads     read   search    merge     wait   peak memory\n";
  for (const rank::RankReport& r : summary.ranks)
    text += format("%5d %-16.16s %12lld %8d %8.2f %8.2f %8.2f %8.2f %13s\n", r.rank,
                   short_host(r.host).c_str(), static_cast<long long>(r.rows), r.threads,
                   seconds_in(r, Phase::read), seconds_in(r, Phase::search), seconds_in(r, Phase::merge),
                   seconds_in(r, Phase::wait), rank::format_bytes(r.peak_rss_bytes).c_str());
  return text;
}

/// What codes or FAISS named, and how it was ranked.
std::string candidates_text(const rank::SearchSummary& summary) {
  if (const auto& faiss = summary.shape.faiss)
    return format("faiss     %s in %lld shard(s); %lld candidates a query ranked by the rows on disk\n",
                  faiss->factory.c_str(), static_cast<long long>(faiss->shards),
                  static_cast<long long>(summary.shape.searched_k()));
  return format("codes     of %lld bytes a row; %lld candidates a query ranked by the rows on disk\n",
                static_cast<long long>(summary.shape.codec->code_bytes(summary.shape.d)),
                static_cast<long long>(summary.shape.searched_k()));
}

std::string exactness_text(const rank::SearchSummary& summary, const ReportNumbers& n) {
  const kernels::SearchCounters& c = summary.counters;
  std::string text = summary.shape.names_candidates()
                         ? candidates_text(summary)
                         : format(
                               "exactness %s of %lld query x shard searches certified at once, %lld widened, "
                               "%.1f candidates per "
                               "search\n",
                               format_percent(n.certified_share).c_str(), static_cast<long long>(c.queries),
                               static_cast<long long>(c.widened), n.candidates_per_query);
  const rank::SelfCheck& check = summary.self_check;
  if (check.queries == 0) return text + "self-check off\n";
  return text + format(
                    "self-check %lld queries in fp64: %lld ids and %lld distances differ, largest relative "
                    "error %.2g\n",
                    static_cast<long long>(check.queries), static_cast<long long>(check.id_mismatches),
                    static_cast<long long>(check.distance_mismatches), check.max_relative_error);
}

/// How much of an index a query looked at.
std::string looked_at_text(const rank::SearchSummary& summary) {
  if (!summary.shape.faiss)
    return format("lists     %lld of %lld a query", static_cast<long long>(summary.nprobe),
                  static_cast<long long>(summary.shape.lists));
  if (summary.faiss_parameter == 0) return "looked at all of each shard";
  return format("looked at --%s %lld", summary.shape.faiss->parameter.c_str(),
                static_cast<long long>(summary.faiss_parameter));
}

/// What share of the neighbors a search in a part of an index finds.
std::string recall_text(const rank::SearchSummary& summary) {
  if (!looks_at_a_part(summary)) return "";
  std::string text = looked_at_text(summary);
  const rank::RecallEstimate& recall = summary.recall;
  if (recall.queries == 0) return text + ", recall not measured\n";
  return text + format(", recall %.4f (95 %% interval %.4f to %.4f; %lld queries)\n", recall.recall,
                       recall.low, recall.high, static_cast<long long>(recall.queries));
}

nlohmann::json recall_json(const rank::RecallEstimate& recall) {
  if (recall.queries == 0) return nullptr;
  return {{"share", recall.recall}, {"low", recall.low}, {"high", recall.high}, {"queries", recall.queries}};
}

nlohmann::json faiss_json(const rank::SearchSummary& summary) {
  if (!summary.shape.faiss) return nullptr;
  const rank::FaissShape& faiss = *summary.shape.faiss;
  nlohmann::json json = {{"factory", faiss.factory},
                         {"shards", faiss.shards},
                         {"rerank", summary.shape.rerank},
                         {"recall", recall_json(summary.recall)}};
  if (summary.faiss_parameter > 0) json[faiss.parameter] = summary.faiss_parameter;
  return json;
}

nlohmann::json lists_json(const rank::SearchSummary& summary) {
  if (summary.nprobe == 0) return nullptr;
  nlohmann::json lists = {
      {"lists", summary.shape.lists}, {"nprobe", summary.nprobe}, {"recall", recall_json(summary.recall)}};
  if (summary.shape.codec) {
    lists["code_bytes"] = summary.shape.codec->code_bytes(summary.shape.d);
    lists["rerank"] = summary.shape.rerank;
  }
  return lists;
}

std::string plan_against_actual(const rank::SearchSummary& summary, const ReportNumbers& n) {
  const rank::JobPlan& plan = summary.plan;
  std::string text = "plan against actual\n";
  text += format("  search time  %12s %12s\n",
                 plan.search_seconds > 0 ? format_seconds(plan.search_seconds).c_str() : "-",
                 format_seconds(n.search_seconds).c_str());
  text += format("  memory/rank  %12s %12s (peak, program included)\n",
                 rank::format_bytes(plan.memory_bytes).c_str(), rank::format_bytes(n.peak_rss_bytes).c_str());
  text += format("  bytes read   %12s %12s\n", rank::format_bytes(plan.read_bytes).c_str(),
                 rank::format_bytes(n.bytes_read).c_str());
  return text;
}

nlohmann::json phases_json(const ReportNumbers& n) {
  nlohmann::json rows = nlohmann::json::array();
  for (const PhaseRow& row : n.phases)
    rows.push_back({{"phase", to_string(row.phase)},
                    {"min_seconds", row.min_seconds},
                    {"mean_seconds", row.mean_seconds},
                    {"max_seconds", row.max_seconds},
                    {"slowest_rank", row.slowest_rank},
                    {"share", row.share}});
  return rows;
}

nlohmann::json ranks_json(const rank::SearchSummary& summary) {
  nlohmann::json rows = nlohmann::json::array();
  for (const rank::RankReport& r : summary.ranks) {
    nlohmann::json seconds = nlohmann::json::object();
    for (const Phase phase : kPhaseOrder) seconds[std::string(to_string(phase))] = seconds_in(r, phase);
    rows.push_back({{"rank", r.rank},
                    {"host", r.host},
                    {"engine", r.engine},
                    {"threads", r.threads},
                    {"rows", r.rows},
                    {"bytes_read", r.bytes_read},
                    {"read_seconds", r.read_seconds},
                    {"peak_rss_bytes", r.peak_rss_bytes},
                    {"roof_flops_per_second", r.roof_flops_per_second},
                    {"phase_seconds", seconds}});
  }
  return rows;
}

nlohmann::json counters_json(const rank::SearchSummary& summary, const ReportNumbers& n) {
  const kernels::SearchCounters& c = summary.counters;
  return {{"searches", c.queries},
          {"certified", c.certified},
          {"widened", c.widened},
          {"candidates", c.candidates},
          {"reranked", c.reranked},
          {"distances", c.distances},
          {"certified_share", n.certified_share},
          {"candidates_per_search", n.candidates_per_query}};
}

nlohmann::json self_check_json(const rank::SelfCheck& check) {
  return {{"queries", check.queries},
          {"id_mismatches", check.id_mismatches},
          {"distance_mismatches", check.distance_mismatches},
          {"max_relative_error", check.max_relative_error},
          {"first_bad_query", check.first_bad_query}};
}

nlohmann::json inputs_json(const std::vector<io::InputSpec>& specs) {
  nlohmann::json names = nlohmann::json::array();
  for (const io::InputSpec& spec : specs) names.push_back(io::to_string(spec));
  return names;
}

}  // namespace

ReportNumbers compute_report_numbers(const rank::SearchSummary& summary) {
  ReportNumbers n;
  for (std::size_t p = 0; p < kPhases; ++p) n.phases[p] = phase_row(kPhaseOrder[p], summary);
  for (const rank::RankReport& report : summary.ranks) {
    n.search_seconds = std::max(n.search_seconds, seconds_in(report, Phase::search));
    n.roof_flops_per_second += report.roof_flops_per_second;
    n.bytes_read += report.bytes_read;
    n.peak_rss_bytes = std::max(n.peak_rss_bytes, report.peak_rss_bytes);
  }
  n.queries_per_second = ratio(static_cast<double>(summary.queries_done), summary.wall_seconds);
  if (summary.shape.names_candidates()) {  // multiply-adds are no measure of look-ups and graphs
    n.roof_flops_per_second = 0;
    n.codes_per_second = ratio(static_cast<double>(summary.counters.distances), n.search_seconds);
  } else {
    n.flops = 2.0 * static_cast<double>(summary.counters.distances) * static_cast<double>(summary.shape.d);
  }
  n.flops_per_second = ratio(n.flops, n.search_seconds);
  n.roof_share = ratio(n.flops_per_second, n.roof_flops_per_second);
  if (summary.pure_read_seconds > 0) n.read_overhead = summary.wall_seconds / summary.pure_read_seconds - 1;
  const auto searches = static_cast<double>(summary.counters.queries);
  n.candidates_per_query = ratio(static_cast<double>(summary.counters.candidates), searches);
  n.certified_share = ratio(static_cast<double>(summary.counters.certified), searches);
  return n;
}

bool looks_at_a_part(const rank::SearchSummary& summary) {
  return summary.nprobe > 0 || summary.shape.faiss;
}

bool is_trusted(const rank::SearchSummary& summary) {
  return summary.self_check.id_mismatches == 0 && summary.self_check.distance_mismatches == 0;
}

std::string verdict(const rank::SearchSummary& summary) {
  if (is_trusted(summary)) return "RESULT OK";
  const rank::SelfCheck& check = summary.self_check;
  return format(
      "RESULT NOT TRUSTED: the fp64 self-check of %lld queries found %lld wrong ids and %lld wrong "
      "distances, first in query %lld",
      static_cast<long long>(check.queries), static_cast<long long>(check.id_mismatches),
      static_cast<long long>(check.distance_mismatches), static_cast<long long>(check.first_bad_query));
}

std::string report_text(const rank::SearchJobConfig& config, const rank::SearchSummary& summary) {
  const ReportNumbers n = compute_report_numbers(summary);
  const rank::JobShape& shape = summary.shape;
  std::string text = format("\nbase      %lld x %lld %s  ", static_cast<long long>(shape.rows),
                            static_cast<long long>(shape.d), std::string(to_string(shape.dtype)).c_str()) +
                     inputs_text(config.base) + "\n";
  text += format("queries   %lld, %s, %s  ", static_cast<long long>(shape.nq),
                 rank::wanted_text(shape).c_str(), std::string(to_string(config.metric)).c_str()) +
          inputs_text(config.queries) + "\n";
  text += format("ranks     %zu, merge %s", summary.ranks.size(), summary.merge.c_str());
  if (!summary.ranks.empty()) text += ", " + summary.ranks.front().engine;
  text += "\n\n" + headline_text(summary, n) + "\n" + phase_table(summary, n) + "\n" + rank_table(summary) +
          "\n" + recall_text(summary) + exactness_text(summary, n) + plan_against_actual(summary, n);
  if (summary.dropped_rows > 0)
    text += format("dropped   %lld base rows with NaN or infinity\n",
                   static_cast<long long>(summary.dropped_rows));
  if (const auto& clusters = summary.clusters)
    text += format("clusters  %lld of two rows and more, the largest of %lld; %lld rows removed, %lld kept\n",
                   static_cast<long long>(clusters->clusters), static_cast<long long>(clusters->largest),
                   static_cast<long long>(clusters->removed),
                   static_cast<long long>(shape.rows - clusters->removed));
  for (const std::string& warning : summary.warnings) text += "warning   " + warning + "\n";
  text += format("lineage   mpishards %s (%s), resumed %d time(s)\n", std::string(version()).c_str(),
                 std::string(revision()).c_str(), summary.resumes);
  for (const std::string& path : summary.result_paths) text += "result    " + path + "\n";
  return text + verdict(summary) + "\n";
}

nlohmann::json report_json(const rank::SearchJobConfig& config, const rank::SearchSummary& summary) {
  const ReportNumbers n = compute_report_numbers(summary);
  const rank::JobShape& shape = summary.shape;
  const rank::JobPlan& plan = summary.plan;
  nlohmann::json report = {
      {"schema", "mpishards.report/1"},
      {"verdict", verdict(summary)},
      {"trusted", is_trusted(summary)},
      {"stopped", summary.stopped},
      {"shape",
       {{"rows", shape.rows},
        {"d", shape.d},
        {"dtype", to_string(shape.dtype)},
        {"queries", shape.nq},
        {"k", shape.k},
        {"metric", to_string(config.metric)},
        {"ranks", shape.n_ranks},
        {"weights", shape.weights}}},
      {"inputs", {{"base", inputs_json(config.base)}, {"queries", inputs_json(config.queries)}}},
      {"results", summary.result_paths},
      {"merge", summary.merge},
      {"wall_seconds", summary.wall_seconds},
      {"queries_done", summary.queries_done},
      {"queries_per_second", n.queries_per_second},
      {"search_seconds", n.search_seconds},
      {"flops", n.flops},
      {"flops_per_second", n.flops_per_second},
      {"roof_flops_per_second", n.roof_flops_per_second},
      {"roof_share", n.roof_share},
      {"pure_read_seconds", summary.pure_read_seconds},
      {"read_overhead", n.read_overhead},
      {"dropped_rows", summary.dropped_rows},
      {"phases", phases_json(n)},
      {"ranks", ranks_json(summary)},
      {"counters", counters_json(summary, n)},
      {"lists", lists_json(summary)},
      {"faiss", faiss_json(summary)},
      {"self_check", self_check_json(summary.self_check)},
      {"plan",
       {{"groups", plan.groups},
        {"passes", plan.passes},
        {"batch", plan.batch},
        {"search_seconds", plan.search_seconds},
        {"memory_bytes", plan.memory_bytes},
        {"read_bytes", plan.read_bytes}}},
      {"actual",
       {{"search_seconds", n.search_seconds},
        {"memory_bytes", n.peak_rss_bytes},
        {"read_bytes", n.bytes_read}}},
      {"warnings", summary.warnings},
      {"lineage",
       {{"version", version()},
        {"revision", revision()},
        {"command_line", config.command_line},
        {"configuration", config.configuration},
        {"resumes", summary.resumes}}},
  };
  if (const auto& clusters = summary.clusters)
    report["clusters"] = {
        {"count", clusters->clusters}, {"largest", clusters->largest}, {"removed", clusters->removed}};
  return report;
}

std::string with_prefix(double value, const std::string& unit) {
  constexpr std::array<const char*, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  std::size_t p = 0;
  while (value >= 999.5 && p + 1 < kPrefixes.size()) {
    value /= 1000;
    ++p;
  }
  return format("%.3g %s%s", value, kPrefixes[p], unit.c_str());
}

std::string format_seconds(double seconds) {
  if (seconds >= 100) return format("%.0f s", seconds);
  if (seconds >= 1) return format("%.2f s", seconds);
  return format("%.1f ms", 1000 * seconds);
}

std::string short_host(const std::string& host) {
  return host.substr(0, host.find('.'));
}

std::string format_percent(double share) {
  return format("%.1f %%", 100 * share);
}

}  // namespace mpishards::app

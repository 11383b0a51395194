#include "rank/rank_report.hpp"

#include <nlohmann/json.hpp>

namespace mpishards::rank {

namespace {

using nlohmann::json;

json to_json(const kernels::SearchCounters& counters) {
  return {counters.queries,    counters.certified, counters.widened,
          counters.candidates, counters.reranked,  counters.distances};
}

kernels::SearchCounters counters_from(const json& list) {
  return {.queries = list.at(0),
          .certified = list.at(1),
          .widened = list.at(2),
          .candidates = list.at(3),
          .reranked = list.at(4),
          .distances = list.at(5)};
}

std::string encode(const RankReport& report) {
  json spans = json::array();
  for (const PhaseSpan& span : report.spans)
    spans.push_back({static_cast<int>(span.phase), span.begin_seconds, span.end_seconds});
  const json all = {{"rank", report.rank},
                    {"host", report.host},
                    {"engine", report.engine},
                    {"threads", report.threads},
                    {"rows", report.rows},
                    {"bytes_read", report.bytes_read},
                    {"read_seconds", report.read_seconds},
                    {"peak_rss_bytes", report.peak_rss_bytes},
                    {"phase_seconds", report.phase_seconds},
                    {"spans", spans},
                    {"roof", report.roof_flops_per_second},
                    {"counters", to_json(report.counters)}};
  return all.dump();
}

RankReport decode(const std::string& text) {
  const json all = json::parse(text);
  RankReport report;
  report.rank = all.at("rank");
  report.host = all.at("host");
  report.engine = all.at("engine");
  report.threads = all.at("threads");
  report.rows = all.at("rows");
  report.bytes_read = all.at("bytes_read");
  report.read_seconds = all.at("read_seconds");
  report.peak_rss_bytes = all.at("peak_rss_bytes");
  report.phase_seconds = all.at("phase_seconds").get<std::array<double, kPhases>>();
  for (const json& span : all.at("spans"))
    report.spans.push_back({static_cast<Phase>(span.at(0).get<int>()), span.at(1), span.at(2)});
  report.roof_flops_per_second = all.at("roof");
  report.counters = counters_from(all.at("counters"));
  return report;
}

}  // namespace

std::vector<RankReport> gather_reports(const RankReport& mine, const comm::Communicator& comm) {
  std::vector<RankReport> reports;
  for (const std::string& text : comm.gather_texts(encode(mine))) reports.push_back(decode(text));
  return reports;
}

}  // namespace mpishards::rank

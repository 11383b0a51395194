#include "app/html_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "app/html_page.hpp"
#include "app/report.hpp"
#include "core/version.hpp"

namespace mpishards::app {

namespace {

// Chart geometry in SVG units; the drawing is scaled to the page's width.
constexpr int kLabelWidth = 150;
constexpr int kChartWidth = 900;
constexpr int kAxisHeight = 28;
constexpr int kMaxRuns = 20000;   // coloured runs in the whole chart: keeps the file below a few MB
constexpr int kTopMargin = 8;     // half a line of text: the first label is whole
constexpr int kMinLabelGap = 18;  // between two rank labels, so that they never touch

struct PhaseColour {
  Phase phase;
  const char* colour;  // told apart on light and dark ground and by most colour-blind readers
};
constexpr PhaseColour kColours[] = {
    {Phase::read, "#4e79a7"},  {Phase::scatter, "#b07aa1"}, {Phase::search, "#59a14f"},
    {Phase::merge, "#f28e2b"}, {Phase::write, "#e15759"},   {Phase::wait, "#bab0ac"},
    {Phase::other, "#79706e"},
};

/// The phase that fills most of each of `columns` equal slices of the wall time; kPhases where none does.
std::vector<std::size_t> dominant_phases(const rank::RankReport& report, double wall_seconds, int columns) {
  const auto n = static_cast<std::size_t>(columns);
  std::vector<std::array<double, kPhases>> filled(n);
  const double width = wall_seconds / columns;
  for (const PhaseSpan& span : report.spans) {
    const auto first = static_cast<std::size_t>(std::clamp(span.begin_seconds / width, 0.0, columns - 1.0));
    const auto last = static_cast<std::size_t>(std::clamp(span.end_seconds / width, 0.0, columns - 1.0));
    for (std::size_t c = first; c <= last; ++c) {
      const double begin = std::max(span.begin_seconds, static_cast<double>(c) * width);
      const double end = std::min(span.end_seconds, static_cast<double>(c + 1) * width);
      filled[c][static_cast<std::size_t>(span.phase)] += std::max(0.0, end - begin);
    }
  }
  std::vector<std::size_t> phases(n, kPhases);
  for (std::size_t c = 0; c < n; ++c) {
    const auto* largest = std::ranges::max_element(filled[c]);
    if (*largest > 0) phases[c] = static_cast<std::size_t>(largest - filled[c].begin());
  }
  return phases;
}

struct ChartGrid {
  double wall_seconds;
  int columns;
  int row_height;
};

ChartGrid chart_grid(const rank::SearchSummary& summary) {
  const int n_ranks = std::max<int>(1, static_cast<int>(summary.ranks.size()));
  double end = summary.wall_seconds;
  for (const rank::RankReport& report : summary.ranks)
    if (!report.spans.empty()) end = std::max(end, report.spans.back().end_seconds);
  return {end > 0 ? end : 1.0, std::clamp(kMaxRuns / n_ranks, 60, kChartWidth),
          n_ranks <= 16    ? 22
          : n_ranks <= 64  ? 12
          : n_ranks <= 256 ? 7
                           : 4};
}

/// One rank's row: a path a phase, so that a tooltip tells the phase's whole time.
std::string chart_row(const rank::RankReport& report, const ChartGrid& grid, int y) {
  const std::vector<std::size_t> phases = dominant_phases(report, grid.wall_seconds, grid.columns);
  const double unit = static_cast<double>(kChartWidth) / grid.columns;
  const int height = grid.row_height > 6 ? grid.row_height - 2 : grid.row_height - 1;
  std::array<std::string, kPhases> paths;
  for (std::size_t begin = 0; begin < phases.size();) {
    std::size_t end = begin + 1;
    while (end < phases.size() && phases[end] == phases[begin]) ++end;
    if (phases[begin] < kPhases)
      paths[phases[begin]] +=
          format("M%.1f %dh%.1fv%dh-%.1fz", kLabelWidth + static_cast<double>(begin) * unit, y,
                 static_cast<double>(end - begin) * unit, height, static_cast<double>(end - begin) * unit);
    begin = end;
  }
  std::string svg;
  for (const PhaseColour& row : kColours) {
    const auto phase = static_cast<std::size_t>(row.phase);
    if (paths[phase].empty()) continue;
    const double seconds = report.phase_seconds[phase];
    svg += format("<path fill=\"%s\" d=\"", row.colour) + paths[phase] + "\"><title>" +
           escape_html(format("rank %d on %.100s: %s %s, %s of its time", report.rank, report.host.c_str(),
                              std::string(to_string(row.phase)).c_str(), format_seconds(seconds).c_str(),
                              format_percent(seconds / grid.wall_seconds).c_str())) +
           "</title></path>\n";
  }
  return svg;
}

/// A step of 1, 2 or 5 times a power of ten that gives about six ticks.
double tick_step(double wall_seconds) {
  const double rough = wall_seconds / 6;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough) return factor * power;
  return 10 * power;
}

std::string time_axis(const ChartGrid& grid, int chart_height) {
  const double step = tick_step(grid.wall_seconds);
  const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  std::string svg;
  for (int i = 0; i * step <= grid.wall_seconds; ++i) {
    const double x = kLabelWidth + i * step / grid.wall_seconds * kChartWidth;
    svg += format(
        "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%d\"/>"
        "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.*f s</text>\n",
        x, x, chart_height + 4, x, chart_height + 20, decimals, i * step);
  }
  return svg;
}

std::string row_label(const rank::RankReport& report, const ChartGrid& grid, int y) {
  std::string host = short_host(report.host);
  if (host.size() > 14) host = host.substr(0, 13) + "…";
  return format("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", kLabelWidth - 8,
                y + grid.row_height / 2 + 3) +
         escape_html(format("%d  ", report.rank) + host) + "</text>\n";
}

std::string chart(const rank::SearchSummary& summary) {
  const ChartGrid grid = chart_grid(summary);
  const int height = grid.row_height * static_cast<int>(summary.ranks.size());
  const int label_every = (kMinLabelGap + grid.row_height - 1) / grid.row_height;
  std::string svg =
      format("<svg viewBox=\"0 0 %d %d\" role=\"img\"><title>What every rank did over time</title>\n",
             kLabelWidth + kChartWidth + 30, kTopMargin + height + kAxisHeight);
  svg += time_axis(grid, kTopMargin + height);
  for (std::size_t i = 0; i < summary.ranks.size(); ++i) {
    const int y = kTopMargin + static_cast<int>(i) * grid.row_height;
    if (static_cast<int>(i) % label_every == 0) svg += row_label(summary.ranks[i], grid, y);
    svg += chart_row(summary.ranks[i], grid, y);
  }
  return svg + "</svg>\n";
}

std::string legend() {
  std::string html = "<p class=\"legend\">";
  for (const PhaseColour& row : kColours) html += legend_entry(row.colour, std::string(to_string(row.phase)));
  return html + "</p>\n";
}

std::string cards(const rank::SearchSummary& summary, const ReportNumbers& n) {
  std::string html = "<div class=\"cards\">\n";
  html += card(format("%.4g", n.queries_per_second), "queries/s, whole run");
  html += card(format_seconds(summary.wall_seconds), format("wall time, %zu rank(s)", summary.ranks.size()));
  if (!summary.shape.faiss)
    html += card(summary.shape.codec ? with_prefix(n.codes_per_second, "codes/s")
                                     : with_prefix(n.flops_per_second, "FLOP/s"),
                 "in the search phase");
  if (n.roof_flops_per_second > 0)
    html += card(format_percent(n.roof_share),
                 "of the roof of " + with_prefix(n.roof_flops_per_second, "FLOP/s"));
  if (summary.pure_read_seconds > 0)
    html += card(format_seconds(summary.wall_seconds - summary.pure_read_seconds),
                 "above the pure-read floor of " + format_seconds(summary.pure_read_seconds));
  if (!summary.shape.names_candidates())
    html += card(format_percent(n.certified_share), "of searches certified at once");
  return html + "</div>\n";
}

std::string phase_table(const rank::SearchSummary& summary, const ReportNumbers& n) {
  std::string html = table_head({"phase", "min s", "mean s", "max s", "slowest rank", "share of wall"});
  double mean_sum = 0;
  double share_sum = 0;
  for (const PhaseRow& row : n.phases) {
    mean_sum += row.mean_seconds;
    share_sum += row.share;
    html += table_row({std::string(to_string(row.phase)), format("%.3f", row.min_seconds),
                       format("%.3f", row.mean_seconds), format("%.3f", row.max_seconds),
                       std::to_string(row.slowest_rank), format_percent(row.share)});
  }
  html +=
      table_row({"sum", "", format("%.3f", mean_sum), "", "", format_percent(share_sum)}, " class=\"sum\"");
  html += format("</table></div><p class=\"sub\">The means sum to the wall time, %.3f s.</p>\n",
                 summary.wall_seconds);
  return html;
}

std::string rank_table(const rank::SearchSummary& summary) {
  std::string html = table_head({"rank", "host", "rows", "threads", "read s", "scatter s", "search s",
                                 "merge s", "write s", "wait s", "other s", "bytes read", "peak memory"});
  for (const rank::RankReport& r : summary.ranks) {
    std::vector<std::string> cells = {std::to_string(r.rank), short_host(r.host), std::to_string(r.rows),
                                      std::to_string(r.threads)};
    for (const PhaseColour& row : kColours)
      cells.push_back(format("%.2f", r.phase_seconds[static_cast<std::size_t>(row.phase)]));
    cells.push_back(rank::format_bytes(r.bytes_read));
    cells.push_back(rank::format_bytes(r.peak_rss_bytes));
    html += table_row(cells);
  }
  return html + table_end();
}

/// How much of an index a query looked at.
std::string looked_at_row(const rank::SearchSummary& summary) {
  if (!summary.shape.faiss)
    return table_row({"lists that a query looked into",
                      std::to_string(summary.nprobe) + " of " + std::to_string(summary.shape.lists)});
  const rank::FaissShape& faiss = *summary.shape.faiss;
  std::string html =
      table_row({"index of FAISS", faiss.factory + " in " + std::to_string(faiss.shards) + " shard(s)"});
  if (summary.faiss_parameter > 0)
    html += table_row({faiss.parameter, std::to_string(summary.faiss_parameter)});
  return html;
}

/// What a search in a part of an index found.
std::string recall_rows(const rank::SearchSummary& summary) {
  if (!looks_at_a_part(summary)) return "";
  const rank::RecallEstimate& recall = summary.recall;
  const std::string html = looked_at_row(summary);
  if (recall.queries == 0) return html + table_row({"recall", "not measured"});
  return html +
         table_row({"recall, of " + std::to_string(recall.queries) + " sampled queries",
                    format("%.4f (95 %% interval %.4f to %.4f)", recall.recall, recall.low, recall.high)});
}

std::string exactness_table(const rank::SearchSummary& summary, const ReportNumbers& n) {
  const kernels::SearchCounters& c = summary.counters;
  const rank::SelfCheck& check = summary.self_check;
  std::string html = table_head({"measure", "value"}) + recall_rows(summary);
  html += table_row({"query x shard searches", std::to_string(c.queries)});
  if (summary.shape.names_candidates()) {
    if (summary.shape.codec)
      html += table_row(
          {"bytes of a row's code", std::to_string(summary.shape.codec->code_bytes(summary.shape.d))});
    html += table_row(
        {"candidates a query, ranked by the rows on disk", std::to_string(summary.shape.searched_k())});
  } else {
    html += table_row({"certified at once", std::to_string(c.certified)});
    html += table_row({"widened until certified", std::to_string(c.widened)});
    html += table_row({"candidates per search", format("%.1f", n.candidates_per_query)});
    html += table_row({"distances computed in double", std::to_string(c.reranked)});
  }
  html += table_row({"self-check: queries re-computed in fp64", std::to_string(check.queries)});
  html += table_row({"self-check: ids that differ", std::to_string(check.id_mismatches)});
  html += table_row({"self-check: distances that differ", std::to_string(check.distance_mismatches)});
  html += table_row({"self-check: largest relative error", format("%.2g", check.max_relative_error)});
  return html + table_end();
}

std::string plan_table(const rank::SearchSummary& summary, const ReportNumbers& n) {
  const rank::JobPlan& plan = summary.plan;
  std::string html = table_head({"", "plan", "actual"});
  html += table_row({"search time", plan.search_seconds > 0 ? format_seconds(plan.search_seconds) : "-",
                     format_seconds(n.search_seconds)});
  html += table_row({"memory of one rank (actual: peak, program included)",
                     rank::format_bytes(plan.memory_bytes), rank::format_bytes(n.peak_rss_bytes)});
  html += table_row({"bytes read", rank::format_bytes(plan.read_bytes), rank::format_bytes(n.bytes_read)});
  return html + table_end();
}

std::string lineage(const rank::SearchJobConfig& config, const rank::SearchSummary& summary) {
  std::string html = "<pre>mpishards " + escape_html(std::string(version())) + " (" +
                     escape_html(std::string(revision())) + ")\nresumed " + std::to_string(summary.resumes) +
                     " time(s)\n" + escape_html(config.command_line) + "\n\n";
  for (std::string line = config.configuration; !line.empty();) {
    const std::size_t end = line.find('\n');
    html += escape_html(line.substr(0, end)) + "\n";
    line = end == std::string::npos ? "" : line.substr(end + 1);
  }
  return html + "</pre>\n";
}

std::string warnings_html(const rank::SearchSummary& summary) {
  if (summary.warnings.empty()) return "";
  std::string html = "<h2>Warnings</h2>\n<ul>\n";
  for (const std::string& warning : summary.warnings) html += "<li>" + escape_html(warning) + "</li>\n";
  return html + "</ul>\n";
}

std::string heading(const rank::SearchJobConfig& config) {
  if (config.range) return config.exclude_self ? "mpishards join" : "mpishards range";
  return config.exclude_self ? "mpishards graph" : "mpishards search";
}

std::string subtitle(const rank::SearchJobConfig& config, const rank::SearchSummary& summary) {
  const rank::JobShape& shape = summary.shape;
  return escape_html(format("%lld x %lld %s base, %lld queries, %s, %s, merge %s",
                            static_cast<long long>(shape.rows), static_cast<long long>(shape.d),
                            std::string(to_string(shape.dtype)).c_str(), static_cast<long long>(shape.nq),
                            rank::wanted_text(shape).c_str(), std::string(to_string(config.metric)).c_str(),
                            summary.merge.c_str())) +
         (summary.ranks.empty() ? "" : ", " + escape_html(summary.ranks.front().engine)) + "<br/>" +
         escape_html(config.output);
}

}  // namespace

std::string report_html(const rank::SearchJobConfig& config, const rank::SearchSummary& summary) {
  const ReportNumbers n = compute_report_numbers(summary);
  return page_begin({.title = config.output + ": " + heading(config), .heading = heading(config)}) +
         "<p class=\"sub\">" + subtitle(config, summary) + "</p>\n<div class=\"verdict " +
         (is_trusted(summary) ? "ok" : "bad") + "\">" + escape_html(verdict(summary)) + "</div>\n" +
         cards(summary, n) + warnings_html(summary) + "<h2>Ranks over time</h2>\n" + legend() +
         chart(summary) + "<h2>Phases</h2>\n" + phase_table(summary, n) + "<h2>Exactness</h2>\n" +
         exactness_table(summary, n) + "<h2>Plan against actual</h2>\n" + plan_table(summary, n) +
         "<h2>Ranks</h2>\n" + rank_table(summary) + "<h2>Lineage</h2>\n" + lineage(config, summary) +
         page_end();
}

}  // namespace mpishards::app

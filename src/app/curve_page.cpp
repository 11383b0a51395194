#include "app/curve_page.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "app/curve_plot.hpp"
#include "app/html_page.hpp"
#include "app/report.hpp"
#include "core/version.hpp"

namespace mpishards::app {

namespace {

std::vector<std::int64_t> all_counts(const CurveDocument& document) {
  std::vector<std::int64_t> counts;
  for (const SystemCurve& curve : document.curves)
    for (const MeasuredPoint& point : curve.points)
      for (const auto& [at, share] : point.recall) counts.push_back(at);
  std::ranges::sort(counts);
  counts.erase(std::ranges::unique(counts).begin(), counts.end());
  return counts;
}

std::string point_table(const CurveDocument& document) {
  const std::vector<std::int64_t> counts = all_counts(document);
  std::vector<std::string> titles = {"program", "setting"};
  for (const std::int64_t at : counts) titles.push_back("recall@" + std::to_string(at));
  titles.insert(titles.end(), {"queries/s", "rows compared"});
  std::string html = table_head(titles);
  for (const SystemCurve& curve : document.curves)
    for (const MeasuredPoint& point : curve.points) {
      std::vector<std::string> cells = {curve.name, point.parameter};
      for (const std::int64_t at : counts) {
        const auto found = point.recall.find(at);
        cells.push_back(found == point.recall.end() ? "-" : format("%.4f", found->second));
      }
      cells.push_back(format("%.0f", point.queries_per_second));
      cells.push_back(point.rows_share ? format_percent(*point.rows_share) : "-");
      html += table_row(cells);
    }
  return html + table_end();
}

std::string system_table(const CurveDocument& document) {
  std::string html =
      table_head({"program", "version", "machine", "ranks", "threads a rank", "build s", "bytes a vector"});
  for (const SystemCurve& curve : document.curves)
    html += table_row({curve.name, curve.version, curve.machine, std::to_string(curve.ranks),
                       std::to_string(curve.threads), optional_text(curve.build_seconds, "%.2f"),
                       optional_text(curve.bytes_per_vector, "%.1f")});
  return html + table_end();
}

}  // namespace

std::string optional_text(const std::optional<double>& value, const char* pattern) {
  return value ? format(pattern, *value) : "-";
}

std::string curve_html(const CurveDocument& document, const std::string& command_line) {
  const std::string truth = document.truth.empty() ? "" : ", truth: " + document.truth;
  return page_begin(
             {.title = document.base + ": recall against queries/s", .heading = "Recall against queries/s"}) +
         "<p class=\"sub\">" + escape_html(to_string(document.question) + truth) + "<br/>" +
         escape_html(document.base) + "</p>\n" + curve_svg(document, PlotGround::page) +
         "<h2>Programs</h2>\n" + system_table(document) + "<h2>Points</h2>\n" + point_table(document) +
         "<p class=\"sub\">Recall counts " +
         (document.by_distance ? "a neighbor at an equal distance as found." : "the same ids alone.") +
         " All queries are one batch; the median of the timed searches counts.</p>\n<h2>Lineage</h2>\n<pre>" +
         escape_html("mpishards " + std::string(version()) + " (" + std::string(revision()) + ")") + "\n" +
         escape_html(command_line) + "</pre>\n" + page_end();
}

}  // namespace mpishards::app

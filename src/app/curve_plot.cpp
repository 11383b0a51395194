#include "app/curve_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "app/html_page.hpp"

namespace mpishards::app {

namespace {

// Geometry in SVG units; the drawing is scaled to the page's width.
constexpr int kWidth = 900;
constexpr int kLeft = 84;
constexpr int kRight = 872;
constexpr int kTop = 16;
constexpr int kBottom = 416;
constexpr int kLegendTop = 484;
constexpr int kLegendRow = 20;

constexpr double kMostSpread = 5;  // where a recall of 1 lies

/// Told apart on light and dark ground and by most colour-blind readers; dashes tell the rest.
constexpr std::array<const char*, 8> kColours = {"#4e79a7", "#e15759", "#59a14f", "#f28e2b",
                                                 "#b07aa1", "#76b7b2", "#9c755f", "#79706e"};
constexpr std::array<const char*, 3> kDashes = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\""};

constexpr const char* kOwnStyle =
    "<style>text { fill: #59636e; font: 12px sans-serif; } .tick { stroke: #d1d9e0; stroke-width: 1; }"
    "</style>\n";

/// Positions of values in the drawing.
struct Axes {
  std::vector<double> recalls;  // ticks
  std::vector<double> rates;

  double x(double recall) const {
    const double begin = spread_recall(recalls.front());
    const double end = spread_recall(recalls.back());
    return kLeft + (spread_recall(recall) - begin) / (end - begin) * (kRight - kLeft);
  }
  double y(double rate) const {
    const double begin = std::log10(rates.front());
    const double end = std::log10(rates.back());
    return kBottom - (std::log10(rate) - begin) / (end - begin) * (kBottom - kTop);
  }
};

Axes axes_of(const CurveDocument& document) {
  double lowest = 1;
  double highest = 0;
  double slowest = std::numeric_limits<double>::infinity();
  double fastest = 0;
  for (const SystemCurve& curve : document.curves)
    for (const MeasuredPoint& point : curve.points) {
      const double recall = point.recall.at(document.question.plotted_at());
      lowest = std::min(lowest, recall);
      highest = std::max(highest, recall);
      slowest = std::min(slowest, point.queries_per_second);
      fastest = std::max(fastest, point.queries_per_second);
    }
  return {recall_ticks(lowest, highest), rate_ticks(slowest, fastest)};
}

std::string grid(const Axes& axes, std::int64_t at) {
  std::string svg;
  for (const double recall : axes.recalls)
    svg += format(
        "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
        "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
        axes.x(recall), axes.x(recall), kTop, kBottom + 4, axes.x(recall), kBottom + 20, recall);
  for (const double rate : axes.rates)
    svg += format(
        "<line class=\"tick\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
        "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.12g</text>\n",
        kLeft - 4, kRight, axes.y(rate), axes.y(rate), kLeft - 8, axes.y(rate) + 4, rate);
  svg += format("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">recall@%lld, spread out towards 1</text>\n",
                (kLeft + kRight) / 2, kBottom + 42, static_cast<long long>(at));
  svg += format("<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">queries/s</text>\n",
                (kTop + kBottom) / 2);
  return svg;
}

const char* colour_of(std::size_t curve) {
  return kColours[curve % kColours.size()];
}

std::string stroke_of(std::size_t curve) {
  return format("stroke=\"%s\" stroke-width=\"%g\"%s", colour_of(curve), curve == 0 ? 2.5 : 1.5,
                kDashes[curve / kColours.size() % kDashes.size()]);
}

std::string marker(std::size_t curve, double x, double y, const std::string& tip) {
  return format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\">", x, y, curve == 0 ? 4.5 : 3.5,
                colour_of(curve)) +
         "<title>" + escape_html(tip) + "</title></circle>\n";
}

std::string line_of(const CurveDocument& document, std::size_t c, const Axes& axes) {
  const SystemCurve& curve = document.curves[c];
  const std::int64_t at = document.question.plotted_at();
  std::string path;
  std::string markers;
  for (const MeasuredPoint& point : curve.points) {
    const double recall = point.recall.at(at);
    const double x = axes.x(recall);
    const double y = axes.y(point.queries_per_second);
    path += format("%s%.1f %.1f", path.empty() ? "M" : " L", x, y);
    markers += marker(c, x, y,
                      curve.name + ", " + point.parameter +
                          format(": recall@%lld %.4f, %.4g queries/s", static_cast<long long>(at), recall,
                                 point.queries_per_second));
  }
  return "<path fill=\"none\" " + stroke_of(c) + " d=\"" + path + "\"/>\n" + markers;
}

std::string legend_of(const CurveDocument& document) {
  std::string svg;
  for (std::size_t c = 0; c < document.curves.size(); ++c) {
    const SystemCurve& curve = document.curves[c];
    const int y = kLegendTop + static_cast<int>(c) * kLegendRow;
    svg += format("<path d=\"M%d %d h36\" ", kLeft, y - 4) + stroke_of(c) + "/>" +
           marker(c, kLeft + 18, y - 4, curve.name) + format("<text x=\"%d\" y=\"%d\">", kLeft + 46, y) +
           escape_html(curve.name + (curve.version.empty() ? "" : " " + curve.version)) +
           format(", %lld rank(s) of %lld thread(s)</text>\n", static_cast<long long>(curve.ranks),
                  static_cast<long long>(curve.threads));
  }
  return svg;
}

}  // namespace

double spread_recall(double recall) {
  return recall >= 1 ? kMostSpread : std::min(kMostSpread, -std::log10(1 - recall));
}

std::vector<double> recall_ticks(double lowest, double highest) {
  constexpr std::array<double, 9> kTicks = {0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
  std::size_t first = kTicks.size() - 2;
  while (kTicks[first] > lowest) --first;
  std::size_t last = first + 1;
  while (kTicks[last] < highest) ++last;
  return {kTicks.begin() + static_cast<std::ptrdiff_t>(first),
          kTicks.begin() + static_cast<std::ptrdiff_t>(last) + 1};
}

std::vector<double> rate_ticks(double lowest, double highest) {
  constexpr double kWide = 1e3;
  const bool powers_alone = highest / lowest > kWide;
  std::vector<double> ticks;
  for (auto power = static_cast<int>(std::floor(std::log10(lowest)));; ++power)
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (powers_alone && factor > 1) continue;
      const double tick = factor * std::pow(10, power);
      if (tick <= lowest) ticks.clear();  // a later one is as low
      ticks.push_back(tick);
      if (tick >= highest && ticks.size() > 1) return ticks;
    }
}

std::string curve_svg(const CurveDocument& document, PlotGround ground) {
  const Axes axes = axes_of(document);
  const int height = kLegendTop + static_cast<int>(document.curves.size()) * kLegendRow - 8;
  std::string svg =
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\"", kWidth, height);
  if (ground == PlotGround::own)
    svg += format(" width=\"%d\" height=\"%d\">\n", kWidth, height) + kOwnStyle +
           format("<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", kWidth, height);
  else
    svg += ">\n";
  svg += "<title>Recall against queries/s</title>\n" + grid(axes, document.question.plotted_at());
  // The first curve last, so that it lies above the others.
  for (std::size_t c = document.curves.size(); c-- > 0;) svg += line_of(document, c, axes);
  return svg + legend_of(document) + "</svg>\n";
}

}  // namespace mpishards::app

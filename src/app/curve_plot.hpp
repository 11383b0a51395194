#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/curve_document.hpp"

namespace mpishards::app {

/// Where a recall lies on an axis that is spread out towards 1: -log10(1 - recall), so that each 9 takes the
/// same room; 1 itself, which would lie infinitely far, one unit behind 0.9999. @pre 0 <= recall <= 1
double spread_recall(double recall);

/// Recalls that are written at that axis, from one not above `lowest` to one not below `highest`.
/// @pre 0 <= lowest <= highest <= 1
std::vector<double> recall_ticks(double lowest, double highest);

/// Rates that are written at a logarithmic axis, from one not above `lowest` to one not below `highest`: 1, 2
/// and 5 times the powers of ten, of wide ranges the powers alone. @pre 0 < lowest <= highest
std::vector<double> rate_ticks(double lowest, double highest);

/// What a drawing stands on.
enum class PlotGround : std::uint8_t {
  page,  // one of html_page.hpp, whose colours it takes
  own,   // white: a file by itself
};

/// Recall at question.plotted_at() against queries/s, one line a curve, with a legend below.
/// @pre every curve has points with that recall
std::string curve_svg(const CurveDocument& document, PlotGround ground);

}  // namespace mpishards::app

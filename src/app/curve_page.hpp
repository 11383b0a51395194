#pragma once

#include <optional>
#include <string>

#include "app/curve_document.hpp"

namespace mpishards::app {

/// The plot and what is in it as one HTML page. @param command_line  that made it
/// @pre every curve has points with the recall that is drawn
std::string curve_html(const CurveDocument& document, const std::string& command_line);

/// A number by a printf pattern, or "-".
std::string optional_text(const std::optional<double>& value, const char* pattern);

}  // namespace mpishards::app

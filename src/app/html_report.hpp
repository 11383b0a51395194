#pragma once

#include <string>

#include "rank/search_job.hpp"

namespace mpishards::app {

/// The report as one HTML page that needs nothing but itself: well formed as XML, no scripts, no references;
/// with a rank x time chart in which every rank is a row and every phase a colour.
/// @par Cost  at most about 20000 coloured runs, however many ranks and spans there are
std::string report_html(const rank::SearchJobConfig& config, const rank::SearchSummary& summary);

}  // namespace mpishards::app

#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/timer.hpp"
#include "rank/search_job.hpp"

namespace mpishards::app {

/// One row of the phase table: seconds over ranks. docs/report.md has the formula of every number here.
struct PhaseRow {
  Phase phase = Phase::other;
  double min_seconds = 0;
  double mean_seconds = 0;  // the means of all phases sum to the wall time
  double max_seconds = 0;
  int slowest_rank = 0;
  double share = 0;  // mean / wall
};

/// The numbers that all three forms of the report show, each computed once.
struct ReportNumbers {
  double queries_per_second = 0;
  double search_seconds = 0;         // the slowest rank's search phase
  double flops = 0;                  // 2 * queries done * nb * d
  double flops_per_second = 0;       // flops / search_seconds; 0 where nothing was searched
  double codes_per_second = 0;       // of a search in codes, instead
  double roof_flops_per_second = 0;  // sum over ranks, measured at start-up; 0 where it was not measured
  double roof_share = 0;             // flops_per_second / roof
  double read_overhead = 0;          // wall / pure read time - 1; 0 where nothing was read
  double candidates_per_query = 0;
  double certified_share = 0;       // of query x shard pairs
  std::int64_t bytes_read = 0;      // sum over ranks
  std::int64_t peak_rss_bytes = 0;  // largest of all ranks
  std::array<PhaseRow, kPhases> phases;
};
ReportNumbers compute_report_numbers(const rank::SearchSummary& summary);

/// Whether the answer may be used: false if the fp64 self-check found a difference.
bool looks_at_a_part(const rank::SearchSummary& summary);

bool is_trusted(const rank::SearchSummary& summary);
/// "RESULT OK" or "RESULT NOT TRUSTED: why".
std::string verdict(const rank::SearchSummary& summary);

/// For people, without colour; the last line is verdict().
std::string report_text(const rank::SearchJobConfig& config, const rank::SearchSummary& summary);

/// Schema "mpishards.report/1"; docs/report.md lists the fields.
nlohmann::json report_json(const rank::SearchJobConfig& config, const rank::SearchSummary& summary);

/// "1.23 TFLOP/s", "4.56 GB/s": value with a power-of-1000 prefix and three digits.
std::string with_prefix(double value, const std::string& unit);
/// "12.3 s", "4.5 ms"
std::string format_seconds(double seconds);
/// A host's name without its domain.
std::string short_host(const std::string& host);
/// "97.3 %"
std::string format_percent(double share);

}  // namespace mpishards::app

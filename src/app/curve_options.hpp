#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/options.hpp"
#include "io/index_directory.hpp"
#include "rank/recall_curve.hpp"

namespace mpishards::app {

/// What `eval --curve` was asked to do.
struct CurveOptions {
  rank::CurveTask task;
  io::IndexManifest index;
  std::string index_directory;
  std::string truth;  // empty: searched
  std::vector<std::string> peers;
  std::string output;  // empty: none
  bool overwrite = false;
  bool json = false;
  bool quiet = false;
  std::string command_line;
};

/// The options of `eval --curve`.
OptionTable curve_options();

/// Opens the index that --base names.
/// @param command_line  for the page
/// @pre settings come from combine() with curve_options()
/// @throws Error{usage} where an input is missing or a value fits no sweep of this index;
/// Error{data|input_missing|permission} for the index
CurveOptions to_curve_options(const Settings& settings, const std::string& command_line);

/// Name of what a curve sweeps: "nprobe", "ef-search"; empty where the index has nothing of the kind.
std::string swept_parameter(const io::IndexManifest& index);

/// Numbers of lists to try, ascending. @param text  "1,2,8"; empty: rank::usual_nprobes
/// @throws Error{usage} for junk, a number that is named twice, 0, or one beyond `lists`
std::vector<std::int64_t> parse_nprobes(const std::string& text, std::int64_t lists,
                                        const std::string& name = "nprobe");

}  // namespace mpishards::app

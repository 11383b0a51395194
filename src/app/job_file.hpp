#pragma once

#include <string>
#include <string_view>

#include "app/options.hpp"

namespace mpishards::app {

/// Reads a job file: TOML, one key an option, the same names as the long flags.
/// @throws Error{input_missing|permission} where the file can't be read; Error{config} naming file and line
/// for a syntax error, an unknown key (with the nearest known one) or a value of the wrong type
Settings read_job_file(const std::string& path, OptionTable table = batch_options());

/// The same for text at hand. @param path  for messages
Settings parse_job_text(std::string_view text, const std::string& path, OptionTable table = batch_options());

}  // namespace mpishards::app

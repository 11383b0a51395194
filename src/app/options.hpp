#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/cli.hpp"
#include "rank/search_job.hpp"

namespace mpishards::app {

enum class OptionKind : std::uint8_t {
  flag,    // true or false; a bare --name is true
  text,    // a path
  list,    // paths; the flag repeats, the job file has an array
  number,  // any finite decimal number
  count,   // 100, 10k, 30M, 1.5G (powers of 1000)
  size,    // bytes: 8GiB, 500MB
  choice,  // one of a few names
  range,   // a:b, half open
  part,    // i/n, 0 <= i < n
};

/// The commands that run a batch job. A graph is the search of a base with its own rows as queries, a join
/// the same of a range; a build makes an index instead of a result.
enum class BatchKind : std::uint8_t { search, graph, range, join, build };
std::string_view to_string(BatchKind kind);

/// Sets of batch commands, as bits.
constexpr std::uint8_t kind_bit(BatchKind kind) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
}
inline constexpr std::uint8_t kAllKinds = 31;

/// One option of a subcommand: the flag --name, the job file key name and the environment variable
/// MPISHARDS_NAME.
struct OptionRow {
  std::string_view name;
  char short_name;  // 0: none
  OptionKind kind;
  std::string_view default_text;  // as one would type it; empty: none, or decided at run time
  std::int64_t minimum;           // of counts
  std::vector<std::string> (*choices)();
  std::string_view value_name;
  std::string_view help;
  std::uint8_t kinds = kAllKinds;  // bits of the batch commands that it means something to
};
/// The options of one subcommand.
using OptionTable = std::span<const OptionRow>;
/// Those of all batch commands; a name that means something else to a build than to a search is there twice.
OptionTable batch_options();
OptionTable options_of(BatchKind kind);

/// Null for an unknown name.
const OptionRow* find_option(std::string_view name, OptionTable table = batch_options());
std::vector<std::string> option_names(OptionTable table = batch_options());

/// "MPISHARDS_QUERIES_RANGE"
std::string environment_name(std::string_view option);

enum class Origin : std::uint8_t { built_in, job_file, environment, flag };
std::string_view to_string(Origin origin);

/// The value of one option, as text, and who said so.
struct Setting {
  std::vector<std::string> values;  // one, but for lists
  Origin origin = Origin::built_in;
  std::string where;  // "--k", "MPISHARDS_K", "job.toml:3"

  const std::string& text() const { return values.front(); }
};
using Settings = std::map<std::string, Setting, std::less<>>;

/// An option's text, empty where nobody says anything.
std::string text_or_empty(const Settings& settings, std::string_view name);
/// Whether a flag is true.
bool is_set(const Settings& settings, std::string_view name);

/// Adds every row of the table to `cli`.
void declare_options(Cli& cli, OptionTable table);

/// What the command line says.
Settings flag_settings(const cxxopts::ParseResult& parsed, OptionTable table = batch_options());
/// What the environment says. @param lookup  getenv, or a test's own
Settings environment_settings(const std::function<const char*(const char*)>& lookup,
                              OptionTable table = batch_options());

/// Flag over environment over job file over default, every value checked against its row. What the
/// environment says beyond the command's options is left out.
/// @throws Error{usage} for a bad flag, Error{config} for a bad value from elsewhere; both name where it
/// stands
Settings combine(const Settings& flags, const Settings& environment, const Settings& job_file,
                 OptionTable table);
/// The same for a batch command. @throws also Error{config} for an option in the job file that the command
/// does not have
Settings combine(BatchKind kind, const Settings& flags, const Settings& environment,
                 const Settings& job_file);

/// The effective configuration as TOML; an option without a value is left out.
/// @param with_origin  each line ends in a comment that says where the value comes from
std::string to_toml(const Settings& settings, bool with_origin, OptionTable table = batch_options());

/// Settings as one line of text and back, for broadcasting.
std::string serialize(const Settings& settings);
Settings deserialize_settings(const std::string& text);

/// "10k" to 10000. @throws Error{usage} for text that is no count
std::int64_t parse_count(std::string_view text);
/// "a:b". @throws Error{usage} unless 0 <= a < b
io::Range parse_range(std::string_view text);

/// What a batch command was asked to do.
struct BatchOptions {
  rank::SearchJobConfig job;
  bool dry_run = false;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool report = true;
};

/// Replaces globs and lists among the inputs by the files that they name, and adds the default data sets
/// `train` and `test`, so that every rank sees the same files. @throws Error{input_missing|usage}
void expand_input_settings(Settings& settings);

/// @param command_line  for the result's attributes
/// @pre settings come from combine()
/// @throws Error{usage} where an input or the output is missing
BatchOptions to_batch_options(BatchKind kind, const Settings& settings, const std::string& command_line);

}  // namespace mpishards::app

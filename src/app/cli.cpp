#include "app/cli.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iterator>

#include "comm/agree.hpp"
#include "core/edit_distance.hpp"
#include "core/error.hpp"

namespace mpishards::app {

namespace {

std::vector<std::string> long_names(const cxxopts::Options& options) {
  std::vector<std::string> names;
  for (const std::string& group : options.groups())
    for (const auto& option : options.group_help(group).options)
      if (!option.l.empty()) names.push_back(option.l.front());
  return names;
}

std::vector<std::string> short_names(const cxxopts::Options& options) {
  std::vector<std::string> names;
  for (const std::string& group : options.groups())
    for (const auto& option : options.group_help(group).options)
      if (!option.s.empty()) names.push_back(option.s);
  return names;
}

bool is_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0;
}

/// "unknown option --metrc; did you mean --metric?"; empty if every --name is known.
std::string unknown_long_flag(const Arguments& arguments, const std::vector<std::string>& known) {
  for (const std::string& argument : arguments) {
    if (!argument.starts_with("--") || argument.size() == 2) continue;
    const std::string name = argument.substr(2, argument.find('=') - 2);
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string meant = nearest(name, known);
    return "unknown option --" + name + (meant.empty() ? "" : "; did you mean --" + meant + "?");
  }
  return "";
}

/// "unknown option -K; did you mean -k?"; empty if every -x is known. A minus before a digit is a number.
std::string unknown_short_flag(const Arguments& arguments, const std::vector<std::string>& known) {
  for (const std::string& argument : arguments) {
    if (argument.size() < 2 || argument[0] != '-' || !is_letter(argument[1])) continue;
    const std::string name = argument.substr(1, 1);
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string lower(1, static_cast<char>(std::tolower(static_cast<unsigned char>(name[0]))));
    const bool meant = std::ranges::find(known, lower) != known.end();
    return "unknown option -" + name + (meant ? "; did you mean -" + lower + "?" : "");
  }
  return "";
}

/// The list option whose value stands right before `stray`, as --name: a shell has expanded a glob, or two
/// values were given to one flag. Empty if there is none.
std::string list_before(const Arguments& arguments, const std::string& stray,
                        const cxxopts::Options& options) {
  const auto end = std::ranges::find(arguments, stray);
  const auto flag = std::find_if(std::make_reverse_iterator(end), arguments.rend(),
                                 [](const std::string& argument) { return argument.starts_with("-"); });
  if (flag == arguments.rend() || !flag->starts_with("--")) return "";
  const std::string name = flag->substr(2, flag->find('=') - 2);
  for (const std::string& group : options.groups())
    for (const auto& option : options.group_help(group).options)
      if (option.is_container && !option.l.empty() && option.l.front() == name) return "--" + name;
  return "";
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// The candidate that begins like `text`, but for its last letter: "query" for "queries", "out" for "output".
std::string begins_alike(std::string_view text, const std::vector<std::string>& candidates) {
  constexpr std::size_t kFewestLetters = 3;
  std::string best;
  std::size_t longest = std::max(kFewestLetters, text.empty() ? 0 : text.size() - 1) - 1;
  for (const std::string& candidate : candidates)
    if (const std::size_t letters = common_prefix(text, candidate); letters > longest) {
      longest = letters;
      best = candidate;
    }
  return best;
}

/// cxxopts has no long names of one letter: "--k" becomes "-k", "--k=5" becomes "-k5".
std::string with_short_dash(const std::string& argument) {
  const bool one_letter = argument.size() >= 3 && argument.starts_with("--") && argument[2] != '-' &&
                          (argument.size() == 3 || argument[3] == '=');
  if (!one_letter) return argument;
  return argument.substr(1, 2) + (argument.size() > 4 ? argument.substr(4) : "");
}

}  // namespace

std::string nearest(std::string_view text, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, text.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(text, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best.empty() ? begins_alike(text, candidates) : best;
}

Cli::Cli(std::string command, std::string synopsis, std::string summary, std::string example,
         std::string program)
    : command_((program.empty() ? "" : program + " ") + command),
      example_(std::move(example)),
      options_(command_, summary) {
  options_.custom_help(synopsis);
  options_.positional_help("");
  options_.set_width(100);
  options_.add_options()("h,help", "print this help");
}

void Cli::positional(std::vector<std::string> names) {
  options_.parse_positional(std::move(names));
}

std::string Cli::help() const {
  std::vector<std::string> groups = options_.groups();
  return options_.help(groups) + "\nExample:\n  " + example_ + "\n";
}

std::optional<cxxopts::ParseResult> Cli::parse(const Arguments& arguments, const comm::Communicator& world) {
  Arguments normalized;
  for (const std::string& argument : arguments) normalized.push_back(with_short_dash(argument));
  std::vector<const char*> argv = {"mpishards"};
  for (const std::string& argument : normalized) argv.push_back(argument.c_str());
  // Every rank has the same arguments, so a failure here is everybody's: AgreedError.
  try {
    cxxopts::ParseResult result = options_.parse(static_cast<int>(argv.size()), argv.data());
    if (result.count("help") > 0) {
      if (world.is_root()) std::fputs(help().c_str(), stdout);
      return std::nullopt;
    }
    if (!result.unmatched().empty()) {
      const std::string& stray = result.unmatched().front();
      const std::string list = list_before(normalized, stray, options_);
      const std::string hint = list.empty() ? "" : "quote the glob or repeat " + list + "; ";
      throw comm::AgreedError(ErrorKind::usage,
                              "unexpected argument '" + stray + "'; " + hint + "see " + command_ + " --help");
    }
    return result;
  } catch (const cxxopts::exceptions::exception& error) {
    std::string message = error.what();
    if (const std::string flag = unknown_long_flag(normalized, long_names(options_)); !flag.empty())
      message = flag;
    else if (const std::string letter = unknown_short_flag(normalized, short_names(options_));
             !letter.empty())
      message = letter;
    throw comm::AgreedError(ErrorKind::usage, message + " (" + command_ + " --help lists the options)");
  }
}

}  // namespace mpishards::app

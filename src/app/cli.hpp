#pragma once

// Lists are given by repeating the flag: a comma is part of a file name. NUL can not occur in an argument.
#define CXXOPTS_VECTOR_DELIMITER '\0'
#include <cxxopts.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/command.hpp"

namespace mpishards::app {

/// The options of one subcommand: cxxopts with this program's manners (an example in --help, "did you mean"
/// for a mistyped flag, Error{usage} instead of exceptions of its own).
class Cli {
 public:
  /// @param synopsis  what follows the name: "FILE... [options]"
  /// @param example   one or more whole command lines, shown at the end of --help
  /// @param program   that has the command; empty: the command is a program
  Cli(std::string command, std::string synopsis, std::string summary, std::string example,
      std::string program = "mpishards");

  cxxopts::OptionAdder add(const std::string& group = "") { return options_.add_options(group); }
  /// Names of options that take positional arguments, in order; the last one may be a vector.
  void positional(std::vector<std::string> names);

  /// Empty if --help was asked for and printed (on rank 0 only): the caller returns 0.
  /// @throws Error{usage} with the nearest known flag
  std::optional<cxxopts::ParseResult> parse(const Arguments& arguments, const comm::Communicator& world);

  std::string help() const;

 private:
  std::string command_;  // "mpishards search"
  std::string example_;
  cxxopts::Options options_;
};

/// The candidate nearest to `text` by edit distance, else one that begins like it; empty when none is near
/// enough to be meant.
std::string nearest(std::string_view text, const std::vector<std::string>& candidates);

}  // namespace mpishards::app

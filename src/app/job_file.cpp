#include "app/job_file.hpp"

#include <toml++/toml.h>

#include <sstream>

#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::app {

namespace {

std::string place_of(const std::string& path, const toml::source_region& source) {
  return path + ":" + std::to_string(source.begin.line);
}

std::string_view expected_type(OptionKind kind) {
  switch (kind) {
    case OptionKind::flag:
      return "true or false";
    case OptionKind::list:
      return "a string or an array of strings";
    case OptionKind::number:
      return "a number";
    case OptionKind::count:
      return "a whole number or a string such as \"10k\"";
    case OptionKind::size:
      return "a string such as \"8GiB\" or a number of bytes";
    default:
      return "a string";
  }
}

[[noreturn]] void refuse_type(const OptionRow& row, const toml::node& node, const std::string& where) {
  std::ostringstream found;
  found << node.type();
  throw Error(ErrorKind::config, where + ": " + std::string(row.name) + " is of type " + found.str() +
                                     "; expected " + std::string(expected_type(row.kind)));
}

std::vector<std::string> strings_of(const OptionRow& row, const toml::array& array,
                                    const std::string& where) {
  std::vector<std::string> values;
  for (const toml::node& item : array) {
    if (!item.is_string()) refuse_type(row, item, where);
    values.push_back(item.as_string()->get());
  }
  if (values.empty())
    throw Error(ErrorKind::config, where + ": " + std::string(row.name) + " is an empty array");
  return values;
}

std::vector<std::string> values_of(const OptionRow& row, const toml::node& node, const std::string& where) {
  const bool numeric =
      row.kind == OptionKind::count || row.kind == OptionKind::size || row.kind == OptionKind::number;
  if (row.kind == OptionKind::flag) {
    if (const auto* flag = node.as_boolean()) return {flag->get() ? "true" : "false"};
  } else if (const auto* text = node.as_string()) {
    return {text->get()};
  } else if (const auto* number = node.as_integer(); number != nullptr && numeric) {
    return {std::to_string(number->get())};
  } else if (const auto* real = node.as_floating_point(); real != nullptr && row.kind == OptionKind::number) {
    std::ostringstream exact;
    exact.precision(17);
    exact << real->get();
    return {exact.str()};
  } else if (const auto* array = node.as_array(); array != nullptr && row.kind == OptionKind::list) {
    return strings_of(row, *array, where);
  }
  refuse_type(row, node, where);
}

const OptionRow& row_of_key(std::string_view key, const std::string& where, OptionTable table) {
  const OptionRow* row = find_option(key, table);
  if (row != nullptr && key != "job") return *row;
  const std::string meant = key == "job" ? "" : nearest(key, option_names(table));
  throw Error(ErrorKind::config, where + ": unknown key '" + std::string(key) + "'" +
                                     (meant.empty() ? "; keys are the command's long option names"
                                                    : "; did you mean " + meant + "?"));
}

}  // namespace

Settings parse_job_text(std::string_view text, const std::string& path, OptionTable options) {
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw Error(ErrorKind::config, place_of(path, error.source()) + ": " + std::string(error.description()));
  }
  Settings settings;
  for (const auto& [key, node] : table) {
    const std::string where = place_of(path, key.source());
    const OptionRow& row = row_of_key(key.str(), where, options);
    settings[std::string(row.name)] = {values_of(row, node, where), Origin::job_file, where};
  }
  return settings;
}

Settings read_job_file(const std::string& path, OptionTable table) {
  return parse_job_text(io::read_text(path), path, table);
}

}  // namespace mpishards::app

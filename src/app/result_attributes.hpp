#pragma once

#include <optional>
#include <string>
#include <variant>

#include "core/error.hpp"
#include "io/results_writer.hpp"

namespace mpishards::app {

/// What a result says about itself; nothing where it doesn't or says it as another type.
template <class T>
std::optional<T> attribute(const io::Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  if (found == attributes.end() || !std::holds_alternative<T>(found->second)) return std::nullopt;
  return std::get<T>(found->second);
}
template <class T>
std::optional<T> attribute(const io::ResultReader& file, const std::string& name) {
  return attribute<T>(file.attributes(), name);
}

[[noreturn]] inline void throw_missing_attribute(const std::string& path, const std::string& name) {
  throw Error(ErrorKind::data, path + " has no attribute '" + name +
                                   "'; expected a result that mpishards search has finished");
}

/// @throws Error{data}
template <class T>
T required_attribute(const io::Attributes& attributes, const std::string& path, const std::string& name) {
  if (std::optional<T> value = attribute<T>(attributes, name)) return *value;
  throw_missing_attribute(path, name);
}
template <class T>
T required_attribute(const io::ResultReader& file, const std::string& path, const std::string& name) {
  return required_attribute<T>(file.attributes(), path, name);
}

}  // namespace mpishards::app

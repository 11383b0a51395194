#pragma once

#include <array>
#include <cstdio>
#include <string>
#include <vector>

/// What all pages have in common: each is one file that needs nothing but itself, well formed as XML, without
/// scripts and references, on light and dark ground.
namespace mpishards::app {

/// printf to a text of at most 511 bytes: for numbers and short names.
template <class... Args>
std::string format(const char* pattern, Args... args) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), pattern, args...);
  return text.data();
}

/// `text` with & < > " as entities and control characters as blanks.
std::string escape_html(const std::string& text);

struct PageHead {
  std::string title;  // of the window
  std::string heading;
};
/// From the doctype to the heading, with the style in it; both texts may hold anything.
std::string page_begin(const PageHead& head);
std::string page_end();

/// Tables; cells and titles may hold anything. A table ends with table_end().
std::string table_head(const std::vector<std::string>& titles);
std::string table_row(const std::vector<std::string>& cells, const char* attributes = "");
std::string table_end();

/// A number with what it means.
std::string card(const std::string& value, const std::string& label);

/// A square of a legend's colour and its name.
std::string legend_entry(const char* colour, const std::string& name);

}  // namespace mpishards::app

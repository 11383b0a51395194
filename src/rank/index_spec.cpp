#include "rank/index_spec.hpp"

#include <charconv>
#include <limits>

#include "core/error.hpp"

namespace mpishards::rank {

namespace {

constexpr IndexTypeRow kTypes[] = {
    {"flat", false, "all rows as they are; exact"},
    {"ivf", true, "rows in lists around centroids; a search looks into the lists nearest to the query"},
};

/// Lists are numbered by int32 while the index is built.
constexpr std::int64_t kMaxLists = std::numeric_limits<std::int32_t>::max();

std::string known_types() {
  std::string text;
  for (const IndexTypeRow& row : kTypes)
    text += (text.empty() ? "" : ", ") + std::string(row.type) + (row.takes_nlist ? "<lists>" : "");
  return text;
}

}  // namespace

std::span<const IndexTypeRow> index_types() {
  return kTypes;
}

IndexSpec parse_index_spec(std::string_view text) {
  for (const IndexTypeRow& row : kTypes) {
    if (!row.takes_nlist && text == row.type) return {std::string(row.type), 1};
    if (!row.takes_nlist || !text.starts_with(row.type)) continue;
    const std::string_view digits = text.substr(row.type.size());
    std::int64_t nlist = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), nlist);
    const bool is_number = code == std::errc() && end == digits.data() + digits.size();
    if (is_number && nlist >= 1 && nlist <= kMaxLists) return {std::string(row.type), nlist};
  }
  throw Error(ErrorKind::usage, "unknown index '" + std::string(text) + "'; known: " + known_types() +
                                    " with 1 to " + std::to_string(kMaxLists) + " lists, such as ivf1024");
}

}  // namespace mpishards::rank

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mpishards::rank {

/// What kind of index is built, and its size.
struct IndexSpec {
  std::string type;        // a row of index_types()
  std::int64_t nlist = 1;  // 1 where the type has no lists of its own

  bool has_lists() const { return type != "flat"; }
  friend bool operator==(const IndexSpec&, const IndexSpec&) = default;
};

/// An index type that mpishards build knows.
struct IndexTypeRow {
  std::string_view type;
  bool takes_nlist;  // the name is followed by the number of lists
  std::string_view help;
};
std::span<const IndexTypeRow> index_types();

/// "ivf1024", "flat". @throws Error{usage} listing the known types
IndexSpec parse_index_spec(std::string_view text);

}  // namespace mpishards::rank

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/codec.hpp"

namespace mpishards::rank {

/// Name of the indexes that FAISS builds and searches.
inline constexpr std::string_view kFaissIndex = "faiss";

/// What kind of index is built, and its size.
struct IndexSpec {
  std::string type;          // a row of index_types()
  std::int64_t nlist = 1;    // 1 where the type has no lists of its own
  std::string codec = {};    // "pq16x4": how rows are coded; empty: they are not
  std::string factory = {};  // "HNSW32": what FAISS builds of each shard; empty: nothing

  bool has_lists() const { return type == "ivf"; }
  bool is_faiss() const { return type == kFaissIndex; }
  friend bool operator==(const IndexSpec&, const IndexSpec&) = default;
};

/// An index type that mpishards build knows.
struct IndexTypeRow {
  std::string_view type;
  bool takes_nlist;  // the name is followed by the number of lists
  std::string_view help;
};
std::span<const IndexTypeRow> index_types();

/// How the rows of an index of lists may be coded.
struct CodecRow {
  std::string_view name;  // with <parts> where a number follows
  std::string_view help;
};
std::span<const CodecRow> codecs();

/// "ivf1024", "ivf1024,pq16x4", "flat", "faiss:HNSW32"; what FAISS makes of its part is seen when d is known.
/// @throws Error{usage} listing the known types and codecs
IndexSpec parse_index_spec(std::string_view text);

/// "sq8", "pq16", "pq32x4". @throws Error{usage} listing the known codecs
kernels::CodecShape parse_codec(std::string_view name);

}  // namespace mpishards::rank

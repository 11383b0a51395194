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

constexpr CodecRow kCodecs[] = {
    {"sq8", "a byte for each value"},
    {"pq<parts>", "a byte for each of so many equal parts of a vector: the number of its nearest codeword"},
    {"pq<parts>x4", "the same with half a byte"},
};

constexpr std::string_view kFaissPrefix = "faiss:";

/// Lists are numbered by int32 while the index is built.
constexpr std::int64_t kMaxLists = std::numeric_limits<std::int32_t>::max();

/// Equal parts of a vector; more have no use.
constexpr std::int64_t kMaxParts = 65536;

/// A whole number from 1 on.
std::optional<std::int64_t> count_of(std::string_view digits) {
  std::int64_t count = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (code != std::errc() || end != digits.data() + digits.size() || count < 1) return std::nullopt;
  return count;
}

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

std::span<const CodecRow> codecs() {
  return kCodecs;
}

kernels::CodecShape parse_codec(std::string_view name) {
  if (name == "sq8") return {};
  if (name.starts_with("pq")) {
    const bool is_short = name.ends_with("x4");
    const std::string_view digits = name.substr(2, name.size() - 2 - (is_short ? 2 : 0));
    const std::optional<std::int64_t> parts = count_of(digits);
    if (parts && *parts <= kMaxParts) return {.parts = *parts, .bits = is_short ? 4 : 8};
  }
  std::string known;
  for (const CodecRow& row : kCodecs) known.append(known.empty() ? "" : ", ").append(row.name);
  throw Error(ErrorKind::usage, "unknown codes '" + std::string(name) + "'; known: " + known + " with 1 to " +
                                    std::to_string(kMaxParts) + " parts, such as pq16");
}

IndexSpec parse_index_spec(std::string_view text) {
  if (text.starts_with(kFaissPrefix)) {
    const std::string_view factory = text.substr(kFaissPrefix.size());
    if (factory.empty())
      throw Error(ErrorKind::usage, "'" + std::string(text) +
                                        "' names no index; say what FAISS is to build, "
                                        "such as faiss:HNSW32");
    return {std::string(kFaissIndex), 1, "", std::string(factory)};
  }
  const std::size_t comma = text.find(',');
  const std::string_view type = text.substr(0, comma);
  const std::string_view codec = comma == std::string_view::npos ? "" : text.substr(comma + 1);
  for (const IndexTypeRow& row : kTypes) {
    if (!row.takes_nlist && text == row.type) return {std::string(row.type), 1, ""};
    if (!row.takes_nlist || !type.starts_with(row.type)) continue;
    const std::optional<std::int64_t> nlist = count_of(type.substr(row.type.size()));
    if (!nlist || *nlist > kMaxLists) continue;
    if (comma != std::string_view::npos) parse_codec(codec);
    return {std::string(row.type), *nlist, std::string(codec)};
  }
  throw Error(ErrorKind::usage, "unknown index '" + std::string(text) + "'; known: " + known_types() +
                                    " with 1 to " + std::to_string(kMaxLists) +
                                    " lists, such as ivf1024, and codes behind a comma, such as "
                                    "ivf1024,pq16; or what FAISS knows, such as faiss:HNSW32");
}

}  // namespace mpishards::rank

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "app/claim_output.hpp"
#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/result_attributes.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/version.hpp"
#include "io/journal.hpp"
#include "io/results_writer.hpp"

namespace mpishards::app {

namespace {

/// One finished part of an array job.
struct Part {
  std::string path;
  std::unique_ptr<io::ResultReader> reader;
  io::Range base_rows;
};

std::string text_of(const io::Attribute& value) {
  struct Visitor {
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return std::to_string(number); }
    std::string operator()(const std::string& text) const { return text; }
  };
  return std::visit(Visitor{}, value);
}

Part open_part(const std::string& path) {
  Part part{path, io::open_result(path), {}};
  part.base_rows = {required_attribute<std::int64_t>(*part.reader, path, "base_begin"),
                    required_attribute<std::int64_t>(*part.reader, path, "base_end")};
  if (part.base_rows.begin < 0 || part.base_rows.begin > part.base_rows.end)
    throw Error(ErrorKind::data, path + " covers base rows from " + std::to_string(part.base_rows.begin) +
                                     " to " + std::to_string(part.base_rows.end));
  if (!part.reader->has_distances()) throw Error(ErrorKind::data, path + " has no distances to merge by");
  return part;
}

/// An attribute of whatever type.
std::string required_text(const Part& part, const std::string& name) {
  const auto found = part.reader->attributes().find(name);
  if (found == part.reader->attributes().end()) throw_missing_attribute(part.path, name);
  return text_of(found->second);
}

/// The same, "none" where the part has none: how an index was searched.
std::string optional_text(const Part& part, const std::string& name) {
  return part.reader->attributes().contains(name) ? required_text(part, name) : "none";
}

void require_same(const Part& first, const Part& part, const std::string& name, const std::string& in_first,
                  const std::string& in_part) {
  if (in_first != in_part)
    throw Error(ErrorKind::data, "parts differ in " + name + ": " + first.path + " has " + in_first + ", " +
                                     part.path + " has " + in_part);
}

std::int64_t rows_of_base(const Part& part) {
  return required_attribute<std::int64_t>(*part.reader, part.path, "nb");
}

/// All parts must answer the same question about the same files.
void check_agreement(const std::vector<Part>& parts) {
  constexpr const char* kSame[] = {
      "metric", "k",    "nq",      "query_begin",   "query_end",        "nb",
      "d",      "base", "queries", "base_identity", "queries_identity", "nonfinite"};
  for (const Part& part : parts) {
    for (const char* name : kSame)
      require_same(parts.front(), part, name, required_text(parts.front(), name), required_text(part, name));
    for (const char* name : {"index_directory", "nprobe", "codec", "rerank"})
      require_same(parts.front(), part, name, optional_text(parts.front(), name), optional_text(part, name));
    const bool same_shape =
        part.reader->nq() == parts.front().reader->nq() && part.reader->k() == parts.front().reader->k();
    if (!same_shape)
      throw Error(ErrorKind::data, part.path + " is " + std::to_string(part.reader->nq()) + " x " +
                                       std::to_string(part.reader->k()) + ", " + parts.front().path + " is " +
                                       std::to_string(parts.front().reader->nq()) + " x " +
                                       std::to_string(parts.front().reader->k()));
  }
}

std::string to_text(io::Range range) {
  return "[" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ")";
}

std::string to_text(const std::vector<io::Range>& ranges) {
  std::string text;
  for (const io::Range& range : ranges) text += (text.empty() ? "" : " ") + to_text(range);
  return text;
}

/// Rows of [0, nb) that no part covers. @pre parts are sorted by their rows @throws Error{data} where two
/// overlap
std::vector<io::Range> missing_rows(const std::vector<Part>& parts, std::int64_t nb) {
  std::vector<io::Range> missing;
  std::int64_t at = 0;
  const Part* before = nullptr;
  for (const Part& part : parts) {
    if (part.base_rows.begin == part.base_rows.end) continue;
    if (part.base_rows.begin < at)
      throw Error(ErrorKind::data, before->path + " with base rows " + to_text(before->base_rows) + " and " +
                                       part.path + " with " + to_text(part.base_rows) +
                                       " overlap; give every part once");
    if (part.base_rows.end > nb)
      throw Error(ErrorKind::data, part.path + " covers base rows " + to_text(part.base_rows) +
                                       ", the base has " + std::to_string(nb));
    if (part.base_rows.begin > at) missing.push_back({at, part.base_rows.begin});
    at = part.base_rows.end;
    before = &part;
  }
  if (at < nb) missing.push_back({at, nb});
  return missing;
}

/// Queries whose answers from all parts are held at a time.
std::int64_t block_queries(std::int64_t k) {
  constexpr std::int64_t kBlockBytes = std::int64_t{32} << 20;
  return std::max<std::int64_t>(1,
                                kBlockBytes / (k * narrow<std::int64_t>(sizeof(GlobalId) + sizeof(float))));
}

/// Largest id in all parts: a format with short ids must know it before anything is written.
std::int64_t largest_id(const std::vector<Part>& parts) {
  std::int64_t largest = 0;
  for (const Part& part : parts) {
    const std::int64_t step = block_queries(part.reader->k());
    for (std::int64_t begin = 0; begin < part.reader->nq(); begin += step) {
      const TopK rows = part.reader->read(begin, std::min(begin + step, part.reader->nq()));
      largest =
          std::max(largest, *std::max_element(rows.neighbors(), rows.neighbors() + rows.nq() * rows.k()));
    }
  }
  return largest;
}

void merge_parts(const std::vector<Part>& parts, const io::ResultSlices& slices) {
  const std::int64_t nq = parts.front().reader->nq();
  const std::int64_t step = block_queries(parts.front().reader->k());
  for (std::int64_t begin = 0; begin < nq; begin += step) {
    const std::int64_t end = std::min(begin + step, nq);
    TopK merged = parts.front().reader->read(begin, end);
    for (std::size_t p = 1; p < parts.size(); ++p) merge_into(merged, parts[p].reader->read(begin, end));
    slices.write(begin, merged);
  }
  slices.sync();
}

/// Sum of the parts' values of a number that counts something in each of them.
std::int64_t sum_of(const std::vector<Part>& parts, const std::string& name) {
  std::int64_t sum = 0;
  for (const Part& part : parts) sum += attribute<std::int64_t>(*part.reader, name).value_or(0);
  return sum;
}

/// The parts' values of a text, each once, in order.
std::vector<std::string> texts_of(const std::vector<Part>& parts, const std::string& name) {
  std::vector<std::string> texts;
  for (const Part& part : parts) {
    const auto found = part.reader->attributes().find(name);
    if (found == part.reader->attributes().end()) continue;
    const std::string text = text_of(found->second);
    if (std::ranges::find(texts, text) == texts.end()) texts.push_back(text);
  }
  return texts;
}

std::string joined(const std::vector<std::string>& texts, const char* separator) {
  std::string text;
  for (const std::string& one : texts) text += (text.empty() ? "" : separator) + one;
  return text;
}

std::string command_line(const Arguments& arguments) {
  return "mpishards merge " + joined(arguments, " ");
}

/// The first part's attributes, with what concerns the whole taken from all of them.
io::Attributes merged_attributes(const std::vector<Part>& parts, const Arguments& arguments,
                                 const std::vector<io::Range>& missing) {
  io::Attributes attributes = parts.front().reader->attributes();
  attributes["base_begin"] = std::int64_t{0};
  attributes["base_end"] = rows_of_base(parts.front());
  // Each part hashed its own rows; the whole base was seen by none.
  attributes.erase("base_content_hash");
  std::vector<std::string> paths;
  for (const Part& part : parts) paths.push_back(part.path);
  attributes["merged_from"] = joined(paths, "\n");
  attributes["merge_command_line"] = command_line(arguments);
  attributes["hosts"] = joined(texts_of(parts, "hosts"), ",");
  for (const char* count : {"n_ranks", "resumes", "dropped_rows"}) attributes[count] = sum_of(parts, count);
  const std::vector<std::string> started = texts_of(parts, "started");
  const std::vector<std::string> ended = texts_of(parts, "ended");
  if (!started.empty()) attributes["started"] = std::ranges::min(started);
  if (!ended.empty()) attributes["ended"] = std::ranges::max(ended);
  if (!missing.empty()) {
    std::vector<io::Range> covered;
    for (const Part& part : parts) covered.push_back(part.base_rows);
    attributes["base_covered"] = to_text(covered);
  }
  return attributes;
}

Cli make_cli() {
  Cli cli(
      "merge", "PART... -o OUT [options]",
      "Merges the results of an array job, parts of one base searched with the same queries, into the result "
      "that one job would have written, byte for byte.",
      "mpishards merge part.0.h5 part.1.h5 part.2.h5 -o result.h5");
  auto add = cli.add();
  add("parts", "results of the parts, in any order", cxxopts::value<std::vector<std::string>>());
  add("o,output", "result file", cxxopts::value<std::string>());
  add("format", "h5, npy or ibin; default: by the suffix of OUT", cxxopts::value<std::string>());
  add("overwrite", "replace OUT if it exists");
  add("allow-partial", "merge although parts are missing; the result says which base rows it covers");
  add("json", "machine-readable output");
  cli.positional({"parts"});
  return cli;
}

void print_summary(bool as_json, const std::vector<Part>& parts, const std::string& out_path,
                   const std::vector<io::Range>& missing) {
  const std::int64_t nq = parts.front().reader->nq();
  const std::int64_t k = parts.front().reader->k();
  if (as_json) {
    const nlohmann::json out = {{"schema", "mpishards.merge/1"},
                                {"output", out_path},
                                {"parts", parts.size()},
                                {"nq", nq},
                                {"k", k},
                                {"missing_base_rows", to_text(missing)}};
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("%s: %lld x %lld from %zu parts\n", out_path.c_str(), static_cast<long long>(nq),
              static_cast<long long>(k), parts.size());
  if (!missing.empty()) std::printf("PARTIAL: base rows %s are missing\n", to_text(missing).c_str());
}

}  // namespace

int run_merge(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli = make_cli();
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  if (options->count("parts") == 0 || options->count("output") == 0)
    throw Error(ErrorKind::usage, "merge needs parts and -o OUT; mpishards merge --help shows how");
  const std::string out_path = (*options)["output"].as<std::string>();
  const io::ResultFormat format = options->count("format") > 0
                                      ? io::result_format_from_string((*options)["format"].as<std::string>())
                                      : io::result_format_of(out_path);
  const auto part_paths = (*options)["parts"].as<std::vector<std::string>>();
  const io::OutputLock lock = claim_output({out_path, io::result_paths(out_path, format), part_paths});
  if (options->count("overwrite") == 0) refuse_existing(io::result_paths(out_path, format));

  std::vector<Part> parts;
  for (const std::string& path : part_paths) parts.push_back(open_part(path));
  check_agreement(parts);
  std::ranges::stable_sort(parts, {}, [](const Part& part) { return part.base_rows.begin; });
  const std::vector<io::Range> missing = missing_rows(parts, rows_of_base(parts.front()));
  if (!missing.empty() && options->count("allow-partial") == 0)
    throw Error(ErrorKind::data, "no part covers base rows " + to_text(missing) +
                                     "; run the missing parts, or say --allow-partial");

  const io::ResultReader& first = *parts.front().reader;
  const std::int64_t max_id = format == io::ResultFormat::ibin ? largest_id(parts) : 0;
  const io::ResultLayout layout = io::create_result(out_path, format, first.nq(), first.k(), max_id);
  merge_parts(parts, io::ResultSlices(layout));
  io::publish_result(out_path, format, merged_attributes(parts, arguments, missing));
  print_summary(options->count("json") > 0, parts, out_path, missing);
  return 0;
}

}  // namespace mpishards::app

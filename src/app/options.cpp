#include "app/options.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/faiss_layout.hpp"
#include "io/index_directory.hpp"
#include "kernels/index.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/index_spec.hpp"
#include "rank/router.hpp"

namespace mpishards::app {

namespace {

using Names = std::vector<std::string>;

constexpr std::array<std::string_view, 5> kBatchNames = {"search", "graph", "range", "join", "build"};

template <class Rows, class NameOf>
Names names_of(Names first, const Rows& rows, NameOf name_of) {
  for (const auto& row : rows) {
    const std::string name(name_of(row));
    if (std::ranges::find(first, name) == first.end()) first.push_back(name);
  }
  return first;
}

Names metric_choices() {
  return {"l2", "ip", "cosine"};
}
Names engine_choices() {
  return {"auto", "cpu", "cuda"};
}
Names isa_choices() {
  return names_of({"auto"}, kernels::isa_names(), [](const std::string& name) { return name; });
}
Names index_choices() {
  return names_of({"auto", std::string(rank::kFaissIndex)}, kernels::index_registry(),
                  [](const kernels::IndexRow& row) { return row.type; });
}
Names merge_choices() {
  return names_of({"auto"}, merge::merge_registry(), [](const merge::MergeRow& row) { return row.name; });
}
Names router_choices() {
  return names_of({"auto"}, rank::router_registry(), [](const rank::RouterRow& row) { return row.name; });
}
Names format_choices() {
  return {"h5", "npy", "ibin"};
}
Names symmetrize_choices() {
  return {"none", "union", "mutual"};
}
Names nonfinite_choices() {
  return {"error", "drop"};
}

constexpr auto kWithQueries =
    static_cast<std::uint8_t>(kind_bit(BatchKind::search) | kind_bit(BatchKind::range));
constexpr auto kWithK = static_cast<std::uint8_t>(kind_bit(BatchKind::search) | kind_bit(BatchKind::graph));
constexpr auto kBuild = kind_bit(BatchKind::build);
constexpr auto kSearches = static_cast<std::uint8_t>(kAllKinds & ~kBuild);
constexpr auto kWithEps = static_cast<std::uint8_t>(kind_bit(BatchKind::range) | kind_bit(BatchKind::join));

constexpr OptionRow kOptions[] = {
    {"base", 0, OptionKind::list, "", 0, nullptr, "FILE[:DATASET]",
     "vectors; repeats, takes globs and @list.txt; HDF5 data set: train"},
    {"queries", 0, OptionKind::list, "", 0, nullptr, "FILE[:DATASET]",
     "query vectors, named like the base; HDF5 data set: test", kWithQueries},
    {"k", 'k', OptionKind::count, "10", 1, nullptr, "N", "neighbors per query", kWithK},
    {"eps", 0, OptionKind::number, "", 0, nullptr, "E",
     "rows within it: l2: squared distance at most E; ip, cosine: similarity at least E", kWithEps},
    {"symmetric", 0, OptionKind::flag, "false", 0, nullptr, "", "each pair in both directions, not once",
     kind_bit(BatchKind::join)},
    {"clusters", 0, OptionKind::flag, "false", 0, nullptr, "",
     "also the connected components of the pairs, and which rows to keep", kind_bit(BatchKind::join)},
    {"metric", 0, OptionKind::choice, "l2", 0, metric_choices, "NAME", "what near means"},
    {"output", 'o', OptionKind::text, "", 0, nullptr, "FILE", "result file", kSearches},
    {"output", 'o', OptionKind::text, "", 0, nullptr, "DIR", "folder of the index", kBuild},
    {"job", 0, OptionKind::text, "", 0, nullptr, "FILE.toml",
     "read options from a file; flags and MPISHARDS_* win; paths in it are relative to the current folder"},
    {"engine", 0, OptionKind::choice, "auto", 0, engine_choices, "NAME", "what computes"},
    {"isa", 0, OptionKind::choice, "auto", 0, isa_choices, "NAME", "CPU kernel family"},
    {"index", 0, OptionKind::choice, "auto", 0, index_choices, "NAME",
     "how a shard is searched (default: as its index directory says, else flat)", kSearches},
    {"nprobe", 0, OptionKind::count, "", 1, nullptr, "N",
     "lists of an index that a query looks into (default: as many as --recall needs)",
     kind_bit(BatchKind::search)},
    {"ef-search", 0, OptionKind::count, "", 1, nullptr, "N",
     "the same of a graph that FAISS built: rows that a search in it keeps in sight",
     kind_bit(BatchKind::search)},
    {"recall", 0, OptionKind::number, "0.95", 0, nullptr, "SHARE",
     "of the true neighbors that is to be found in an index of lists, measured on a sample of the queries",
     kind_bit(BatchKind::search)},
    {"rerank", 0, OptionKind::count, "10", 1, nullptr, "R",
     "candidates that the codes of an index, or FAISS, name for each neighbor, ranked by the rows on disk",
     kind_bit(BatchKind::search)},
    {"recall-queries", 0, OptionKind::count, "200", 0, nullptr, "N",
     "queries of that sample, searched in all lists; with --nprobe 0 is possible: nothing is measured",
     kind_bit(BatchKind::search)},
    {"index", 0, OptionKind::text, "", 0, nullptr, "SPEC",
     "flat, or ivf and the number of lists: ivf1024; with codes: ivf1024,sq8 ivf1024,pq16 ivf1024,pq32x4; or "
     "what "
     "FAISS' index_factory knows: faiss:HNSW32",
     kBuild},
    {"import", 0, OptionKind::text, "", 0, nullptr, "FILE.index",
     "a FAISS file instead of --base and --index: its vectors and ids, and of an IndexIVFFlat its lists as "
     "they are",
     kBuild},
    {"training-rows", 0, OptionKind::count, "", 1, nullptr, "N",
     "rows that the centroids are trained on (default: 256 a list)", kBuild},
    {"iterations", 0, OptionKind::count, "10", 1, nullptr, "N", "of the training", kBuild},
    {"shards", 0, OptionKind::count, "", 1, nullptr, "N",
     "files of vectors (default: so that none has more than 4 GiB)", kBuild},
    {"balance", 0, OptionKind::text, "auto", 0, nullptr, "WEIGHTS",
     "how the base is shared out: equal, measured (by the speed of each rank), a weight for each rank "
     "(1,1,0.25), or auto: measured where ranks are of several kinds"},
    {"merge", 0, OptionKind::choice, "auto", 0, merge_choices, "NAME", "how ranks join their answers",
     kWithK},
    {"router", 0, OptionKind::choice, "auto", 0, router_choices, "NAME", "which shards see which query",
     kWithK},
    {"batch", 0, OptionKind::count, "", 1, nullptr, "N", "queries per batch (default: planned)", kSearches},
    {"batch", 0, OptionKind::count, "", 1, nullptr, "N",
     "rows assigned or written at once (default: planned)", kBuild},
    {"memory", 0, OptionKind::size, "", 1, nullptr, "SIZE",
     "memory per rank, e.g. 8GiB (default: what the host has left, divided by its ranks)"},
    {"threads", 0, OptionKind::count, "", 1, nullptr, "N", "threads per rank (default: its cores)"},
    {"format", 0, OptionKind::choice, "", 0, format_choices, "NAME", "result format (default: by suffix)",
     kind_bit(BatchKind::search)},
    {"queries-range", 0, OptionKind::range, "", 0, nullptr, "A:B", "search only queries A to B-1",
     kWithQueries},
    {"part", 0, OptionKind::part, "", 0, nullptr, "I/N",
     "search only piece I (0 to N-1) of N contiguous pieces of the base; mpishards merge joins them",
     kind_bit(BatchKind::search)},
    {"nonfinite", 0, OptionKind::choice, "error", 0, nonfinite_choices, "WHAT",
     "base rows with NaN or infinity: refuse, or drop and count", kWithQueries},
    {"symmetrize", 0, OptionKind::choice, "none", 0, symmetrize_choices, "WHAT",
     "edges i-j where j is near i (none), where either is near the other (union), where both are (mutual)",
     kind_bit(BatchKind::graph)},
    {"self-check", 0, OptionKind::count, "16", 0, nullptr, "N", "queries to re-compute in fp64 at the end",
     kSearches},
    {"checkpoint", 0, OptionKind::count, "30", 0, nullptr, "SECONDS",
     "save the state of a streamed base this often; 0: after every shard group", kWithK},
    {"overwrite", 0, OptionKind::flag, "false", 0, nullptr, "", "replace an existing output"},
    {"no-resume", 0, OptionKind::flag, "false", 0, nullptr, "",
     "start over instead of continuing a stopped run"},
    {"dry-run", 0, OptionKind::flag, "false", 0, nullptr, "", "print the plan and touch nothing"},
    {"report", 0, OptionKind::flag, "true", 0, nullptr, "",
     "write OUT.report.json and OUT.report.html (--report=false: don't)", kSearches},
    {"log", 0, OptionKind::text, "", 0, nullptr, "FOLDER",
     "one file of JSON lines a rank: what it did and when"},
    {"json", 0, OptionKind::flag, "false", 0, nullptr, "", "one JSON document instead of the report text"},
    {"quiet", 'q', OptionKind::flag, "false", 0, nullptr, "", "print nothing but errors"},
    {"verbose", 'v', OptionKind::flag, "false", 0, nullptr, "", "print the configuration and who set what"},
};

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

bool is_boolean(const std::string& text) {
  return text == "true" || text == "false" || text == "1" || text == "0";
}

std::pair<int, int> parse_part(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos)
    throw Error(ErrorKind::usage, "'" + std::string(text) + "' is no part; expected I/N, such as 0/4");
  const std::int64_t part = parse_count(text.substr(0, slash));
  const std::int64_t parts = parse_count(text.substr(slash + 1));
  if (part < 0 || part >= parts || parts > std::numeric_limits<int>::max())
    throw Error(ErrorKind::usage, "part " + std::string(text) + " is outside 0/N to N-1/N");
  return {narrow<int>(part), narrow<int>(parts)};
}

double parse_number(std::string_view text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    throw Error(ErrorKind::usage,
                "'" + std::string(text) + "' is no finite number; expected one such as 0.25 or 1e4");
  return value;
}

void check_choice(const OptionRow& row, const std::string& text) {
  const Names choices = row.choices();
  if (std::ranges::find(choices, text) != choices.end()) return;
  const std::string meant = nearest(text, choices);
  throw Error(ErrorKind::usage, "unknown " + std::string(row.name) + " '" + text + "'; known: " +
                                    joined(choices) + (meant.empty() ? "" : "; did you mean " + meant + "?"));
}

void check_value(const OptionRow& row, const std::string& text) {
  switch (row.kind) {
    case OptionKind::flag:
      if (!is_boolean(text)) throw Error(ErrorKind::usage, "'" + text + "' is neither true nor false");
      return;
    case OptionKind::text:
    case OptionKind::list:
      if (text.empty()) throw Error(ErrorKind::usage, "the value is empty");
      return;
    case OptionKind::number:
      parse_number(text);
      return;
    case OptionKind::count:
      if (const std::int64_t value = parse_count(text); value < row.minimum)
        throw Error(ErrorKind::usage, std::string(row.name) + " = " + std::to_string(value) +
                                          " is below the smallest value, " + std::to_string(row.minimum));
      return;
    case OptionKind::size:
      if (rank::parse_bytes(text) < row.minimum) throw Error(ErrorKind::usage, "'" + text + "' is no memory");
      return;
    case OptionKind::choice:
      return check_choice(row, text);
    case OptionKind::range:
      parse_range(text);
      return;
    case OptionKind::part:
      parse_part(text);
      return;
  }
}

void check_setting(const OptionRow& row, const Setting& setting) {
  for (const std::string& text : setting.values) {
    try {
      check_value(row, text);
    } catch (const Error& error) {
      const ErrorKind kind = setting.origin == Origin::flag ? ErrorKind::usage : ErrorKind::config;
      throw Error(kind, setting.where + ": " + error.what());
    }
  }
}

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump();
}

/// Counts and sizes stand as their author wrote them: a bare number where it is one, else text.
bool is_bare_number(const std::string& text) {
  return !text.empty() && (text == "0" || text.front() != '0') &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::string toml_value(const OptionRow& row, const Setting& setting) {
  switch (row.kind) {
    case OptionKind::flag:
      return setting.text() == "true" || setting.text() == "1" ? "true" : "false";
    case OptionKind::list: {
      std::string array = "[";
      for (const std::string& value : setting.values) array += (array.size() > 1 ? ", " : "") + quoted(value);
      return array + "]";
    }
    case OptionKind::count:
    case OptionKind::size:
      return is_bare_number(setting.text()) ? setting.text() : quoted(setting.text());
    default:
      return quoted(setting.text());
  }
}

const std::string* text_of(const Settings& settings, std::string_view name) {
  const auto found = settings.find(name);
  return found == settings.end() ? nullptr : &found->second.text();
}

std::int64_t count_or(const Settings& settings, std::string_view name, std::int64_t otherwise) {
  const std::string* text = text_of(settings, name);
  return text == nullptr ? otherwise : parse_count(*text);
}

const Setting& required(const Settings& settings, std::string_view name, const std::string& example) {
  const auto found = settings.find(name);
  if (found == settings.end())
    throw Error(ErrorKind::usage, "--" + std::string(name) + " is missing; give for instance --" +
                                      std::string(name) + " " + example + ", or a --job file that has it");
  return found->second;
}

void refuse_option(BatchKind kind, const OptionRow& row, const Settings& job_file) {
  if (const auto found = job_file.find(row.name); found != job_file.end())
    throw Error(ErrorKind::config, found->second.where + ": " + std::string(row.name) +
                                       " is no option of mpishards " + std::string(to_string(kind)) +
                                       "; leave it out");
}

std::optional<rank::RangeSearch> range_search(BatchKind kind, const Settings& settings, Metric metric) {
  if (kind != BatchKind::range && kind != BatchKind::join) return std::nullopt;
  const Setting& said = required(settings, "eps", "0.25");
  const double eps = parse_number(said.text());
  if (metric == Metric::l2 && eps < 0)
    throw Error(ErrorKind::usage,
                "--eps " + said.text() + ": a squared distance is never negative; name one of at least 0");
  if (std::abs(eps) > std::numeric_limits<float>::max())
    throw Error(ErrorKind::usage, "--eps " + said.text() + " is beyond float32");
  if (kind == BatchKind::range) return rank::RangeSearch{static_cast<float>(eps), kernels::RangePairs::all};
  const bool both = is_set(settings, "symmetric");
  return rank::RangeSearch{static_cast<float>(eps),
                           both ? kernels::RangePairs::others : kernels::RangePairs::later,
                           is_set(settings, "clusters")};
}

io::ResultFormat result_format(BatchKind kind, const Settings& settings, const std::string& output) {
  const std::string* name = text_of(settings, "format");
  if (name != nullptr) return io::result_format_from_string(*name);
  const io::ResultFormat format = io::result_format_of(output);
  if (kind == BatchKind::search) return format;
  if (format != io::ResultFormat::h5)
    throw Error(ErrorKind::usage, "the output of mpishards " + std::string(to_string(kind)) +
                                      " is written as HDF5, not as " + output + "; end the output in .h5");
  return io::ResultFormat::csr;
}

std::optional<rank::IndexBuild> index_build(BatchKind kind, const Settings& settings) {
  if (kind != BatchKind::build) return std::nullopt;
  if (text_of(settings, "import") != nullptr)
    return rank::IndexBuild{.shards = count_or(settings, "shards", 0), .imports = true};
  rank::parse_index_spec(required(settings, "index", "ivf1024").text());
  return rank::IndexBuild{.training_rows = count_or(settings, "training-rows", 0),
                          .iterations = count_or(settings, "iterations", 10),
                          .shards = count_or(settings, "shards", 0)};
}

/// A folder's name, without the slashes that shells leave at its end.
std::string folder_name(std::string text) {
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

std::vector<io::InputSpec> input_specs(const Setting& setting) {
  std::vector<io::InputSpec> specs;
  for (const std::string& text : setting.values) specs.push_back(io::parse_input_spec(text));
  return specs;
}

/// The metric that was asked for, else that of the FAISS files in the base.
Metric metric_of(const Settings& settings, const std::vector<io::InputSpec>& base) {
  const Setting& said = settings.at("metric");
  std::optional<Metric> found;
  for (const io::InputSpec& spec : base) {
    if (said.origin != Origin::built_in || !io::is_faiss_path(spec.path) || io::is_index_directory(spec.path))
      continue;
    const Metric metric = io::read_faiss_layout(spec.path).metric;
    if (found.value_or(metric) != metric)
      throw Error(ErrorKind::usage, spec.path + " compares by " + std::string(to_string(metric)) +
                                        ", a file before it in the base by " +
                                        std::string(to_string(*found)) + "; name one with --metric");
    found = metric;
  }
  return found.value_or(metric_from_string(said.text()));
}

void refuse_if_said(const Settings& settings, std::string_view name, const std::string& why) {
  const auto said = settings.find(name);
  if (said != settings.end() && said->second.origin != Origin::built_in)
    throw Error(ErrorKind::usage, said->second.where + " " + why + "; leave it out");
}

/// A FAISS file brings its rows, its metric, and its lists where it has some.
void set_import(const Settings& settings, rank::SearchJobConfig& job) {
  const std::string& path = *text_of(settings, "import");
  for (const std::string_view name : {"base", "index", "training-rows", "iterations"})
    refuse_if_said(settings, name, "does not go with --import, whose file says all that");
  if (!io::is_faiss_path(path))
    throw Error(ErrorKind::usage, "--import " + path +
                                      " is no FAISS file by its name; expected one that ends in .index or "
                                      ".faiss, as faiss.write_index writes it");
  const io::FaissLayout layout = io::read_faiss_layout(path);
  job.index = layout.has_lists ? "ivf" + std::to_string(layout.nlist()) : "flat";
  const bool is_cosine = job.metric == Metric::cosine && layout.metric == Metric::ip;
  if (job.metric != layout.metric && !is_cosine)
    throw Error(ErrorKind::usage, path + " compares by " + std::string(to_string(layout.metric)) +
                                      ", not by " + std::string(to_string(job.metric)) +
                                      "; leave --metric out");
}

/// Of what decides how much of an index a query looks at, an index has one at most.
void refuse_other_parameters(const Settings& settings, std::string_view parameter) {
  for (const std::string_view name : {"nprobe", "ef-search"})
    if (name != parameter)
      refuse_if_said(settings, name,
                     parameter.empty() ? "decides nothing in this index"
                                       : "is for another index; this one takes --" + std::string(parameter));
}

/// Opens the base where it is an index directory, and decides how much of it is searched.
void set_index(BatchKind kind, const Settings& settings, rank::SearchJobConfig& job) {
  job.index = text_or_empty(settings, "index");
  bool names_candidates = false;
  std::string parameter = "nprobe";
  const bool in_directory = job.base.size() == 1 && io::is_index_directory(job.base.front().path);
  if (in_directory) {
    job.index_directory = job.base.front().path;
    if (kind != BatchKind::search)
      throw Error(ErrorKind::usage, job.index_directory + " is an index, which mpishards " +
                                        std::string(to_string(kind)) +
                                        " does not take; name the files that it was built from");
    const io::IndexManifest index = io::read_index(job.index_directory);
    names_candidates = !index.codes.codec.empty() || !index.faiss.factory.empty();
    if (!index.faiss.factory.empty()) parameter = index.faiss.parameter;
    job.base = io::index_inputs(job.index_directory, index);
    if (settings.at("metric").origin == Origin::built_in) job.metric = index.metric;
    if (job.index == "auto") job.index = index.type;
  }
  if (job.build) return;
  if (job.index == "auto") job.index = "flat";
  if (job.index != "flat" && !in_directory)
    throw Error(ErrorKind::usage, "--index " + job.index +
                                      " needs an index directory as the base; make one with mpishards build");
  if (job.index == "flat")
    for (const std::string_view name : {"nprobe", "recall"})
      refuse_if_said(settings, name, "is for an index that is searched in part; the base is searched whole");
  if (job.index == "flat" || !names_candidates)
    refuse_if_said(settings, "rerank",
                   "is for an index with codes or of FAISS; the rows themselves are searched");
  refuse_other_parameters(settings, job.index == "flat" ? "" : parameter);
  if (job.index == "flat") return;
  job.nprobe = parameter.empty() ? 0 : count_or(settings, parameter, 0);
  job.rerank = count_or(settings, "rerank", 10);
  job.recall = parse_number(*text_of(settings, "recall"));
  job.recall_queries = count_or(settings, "recall-queries", 0);
  if (!(job.recall > 0 && job.recall <= 1))
    throw Error(ErrorKind::usage,
                "--recall " + *text_of(settings, "recall") + " is no share above 0 and up to 1");
  if (parameter.empty())
    refuse_if_said(settings, "recall",
                   "needs a parameter that decides it, which this index of FAISS has not");
  else if (job.nprobe == 0 && job.recall_queries < 2)
    throw Error(ErrorKind::usage, "--recall takes at least 2 --recall-queries; or name --" + parameter);
}

}  // namespace

bool is_set(const Settings& settings, std::string_view name) {
  const std::string* text = text_of(settings, name);
  return text != nullptr && (*text == "true" || *text == "1");
}

std::string text_or_empty(const Settings& settings, std::string_view name) {
  const std::string* text = text_of(settings, name);
  return text == nullptr ? "" : *text;
}

OptionTable batch_options() {
  return kOptions;
}

OptionTable options_of(BatchKind kind) {
  static const std::array<std::vector<OptionRow>, kBatchNames.size()> tables = [] {
    std::array<std::vector<OptionRow>, kBatchNames.size()> rows;
    for (std::size_t k = 0; k < rows.size(); ++k)
      std::ranges::copy_if(kOptions, std::back_inserter(rows[k]), [k](const OptionRow& row) {
        return (row.kinds & kind_bit(static_cast<BatchKind>(k))) != 0;
      });
    return rows;
  }();
  return tables[static_cast<std::size_t>(kind)];
}

std::string_view to_string(BatchKind kind) {
  return kBatchNames[static_cast<std::size_t>(kind)];
}

const OptionRow* find_option(std::string_view name, OptionTable table) {
  const auto found = std::ranges::find(table, name, &OptionRow::name);
  return found == table.end() ? nullptr : &*found;
}

std::vector<std::string> option_names(OptionTable table) {
  return names_of({}, table, [](const OptionRow& row) { return row.name; });
}

std::string environment_name(std::string_view option) {
  std::string name = "MPISHARDS_";
  for (const char c : option)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string_view to_string(Origin origin) {
  constexpr std::array<std::string_view, 4> kNames = {"default", "job file", "environment", "flag"};
  return kNames[static_cast<std::size_t>(origin)];
}

void declare_options(Cli& cli, OptionTable table) {
  for (const OptionRow& row : table) {
    std::string spec(row.name);
    if (row.short_name != 0 && row.name.size() > 1) spec = std::string(1, row.short_name) + "," + spec;
    std::string help(row.help);
    if (row.choices != nullptr) help += ": " + joined(row.choices());
    if (!row.default_text.empty() && row.kind != OptionKind::flag)
      help += " (default: " + std::string(row.default_text) + ")";
    std::shared_ptr<cxxopts::Value> value;
    if (row.kind == OptionKind::flag)
      value = cxxopts::value<bool>();
    else if (row.kind == OptionKind::list)
      value = cxxopts::value<std::vector<std::string>>();
    else
      value = cxxopts::value<std::string>();
    cli.add()(spec, help, value, std::string(row.value_name));
  }
}

Settings flag_settings(const cxxopts::ParseResult& parsed, OptionTable table) {
  Settings settings;
  for (const OptionRow& row : table) {
    const std::string name(row.name);
    if (parsed.count(name) == 0) continue;
    const std::string where = (name.size() == 1 ? "-" : "--") + name;
    if (row.kind == OptionKind::flag)
      settings[name] = {{parsed[name].as<bool>() ? "true" : "false"}, Origin::flag, where};
    else if (row.kind == OptionKind::list)
      settings[name] = {parsed[name].as<std::vector<std::string>>(), Origin::flag, where};
    else
      settings[name] = {{parsed[name].as<std::string>()}, Origin::flag, where};
  }
  return settings;
}

Settings environment_settings(const std::function<const char*(const char*)>& lookup, OptionTable table) {
  Settings settings;
  for (const OptionRow& row : table) {
    const std::string variable = environment_name(row.name);
    const char* text = lookup(variable.c_str());
    if (text != nullptr && *text != '\0')
      settings[std::string(row.name)] = {{text}, Origin::environment, variable};
  }
  return settings;
}

Settings combine(const Settings& flags, const Settings& environment, const Settings& job_file,
                 OptionTable table) {
  Settings settings;
  for (const OptionRow& row : table) {
    for (const Settings* source : {&flags, &environment, &job_file}) {
      const auto found = source->find(row.name);
      if (found == source->end()) continue;
      check_setting(row, found->second);
      settings.emplace(row.name,
                       found->second);  // the first source wins; the others are checked all the same
    }
    if (!row.default_text.empty())
      settings.try_emplace(std::string(row.name),
                           Setting{{std::string(row.default_text)}, Origin::built_in, ""});
  }
  return settings;
}

Settings combine(BatchKind kind, const Settings& flags, const Settings& environment,
                 const Settings& job_file) {
  for (const OptionRow& row : kOptions)
    if (find_option(row.name, options_of(kind)) == nullptr) refuse_option(kind, row, job_file);
  return combine(flags, environment, job_file, options_of(kind));
}

std::string to_toml(const Settings& settings, bool with_origin, OptionTable table) {
  std::string text;
  for (const OptionRow& row : table) {
    const auto found = settings.find(row.name);
    const bool is_repeated = find_option(row.name, table) != &row;
    if (found == settings.end() || is_repeated) continue;
    std::string line = std::string(row.name) + " = " + toml_value(row, found->second);
    if (with_origin) {
      line.resize(std::max<std::size_t>(line.size() + 2, 40), ' ');
      line += "# " + std::string(to_string(found->second.origin));
      if (!found->second.where.empty()) line += " " + found->second.where;
    }
    text += line + "\n";
  }
  return text;
}

std::string serialize(const Settings& settings) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, setting] : settings)
    json[name] = {{"values", setting.values}, {"origin", setting.origin}, {"where", setting.where}};
  return json.dump();
}

Settings deserialize_settings(const std::string& text) {
  Settings settings;
  const nlohmann::json parsed = nlohmann::json::parse(text);
  for (const auto& [name, json] : parsed.items())
    settings[name] = {json.at("values").get<std::vector<std::string>>(), json.at("origin").get<Origin>(),
                      json.at("where").get<std::string>()};
  return settings;
}

std::int64_t parse_count(std::string_view text) {
  const auto refuse = [&] {
    throw Error(ErrorKind::usage,
                "'" + std::string(text) + "' is no count; expected a whole number such as 100, 10k or 30M");
  };
  double value = 0;
  const auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (code != std::errc()) refuse();
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (suffix == "k" || suffix == "K")
    value *= 1e3;
  else if (suffix == "M")
    value *= 1e6;
  else if (suffix == "G")
    value *= 1e9;
  else if (!suffix.empty())
    refuse();
  constexpr double kExactIntegers = 0x1p53;
  if (!(std::abs(value) <= kExactIntegers) || value != std::floor(value)) refuse();
  return static_cast<std::int64_t>(value);
}

io::Range parse_range(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    throw Error(ErrorKind::usage, "'" + std::string(text) + "' is no range; expected A:B, such as 0:1000");
  const io::Range range{parse_count(text.substr(0, colon)), parse_count(text.substr(colon + 1))};
  if (range.begin < 0 || range.begin >= range.end)
    throw Error(ErrorKind::usage, "range " + std::string(text) + " is empty; expected A:B with 0 <= A < B");
  return range;
}

void expand_input_settings(Settings& settings) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kDefaultDatasets = {
      {{"base", "train"}, {"queries", "test"}}};
  for (const auto& [name, dataset] : kDefaultDatasets) {
    const auto found = settings.find(name);
    if (found == settings.end()) continue;
    const std::vector<io::InputSpec> specs = io::expand_inputs(found->second.values, dataset);
    found->second.values.clear();
    for (const io::InputSpec& spec : specs) found->second.values.push_back(io::to_string(spec));
  }
}

BatchOptions to_batch_options(BatchKind kind, const Settings& settings, const std::string& command_line) {
  BatchOptions options;
  rank::SearchJobConfig& job = options.job;
  const std::string* import = text_of(settings, "import");
  job.base = import != nullptr ? std::vector<io::InputSpec>{{*import, ""}}
                               : input_specs(required(settings, "base", "emb.h5:/train"));
  job.build = index_build(kind, settings);
  job.exclude_self = kind == BatchKind::graph || kind == BatchKind::join;
  job.queries =
      job.exclude_self || job.build ? job.base : input_specs(required(settings, "queries", "emb.h5:/test"));
  job.output = required(settings, "output", job.build ? "emb.index" : "result.h5").text();
  job.metric = metric_of(settings, job.base);
  job.range = range_search(kind, settings, job.metric);
  job.k = job.range || job.build ? 1 : count_or(settings, "k", job.k);
  if (job.build)
    job.output = folder_name(job.output);
  else
    job.format = result_format(kind, settings, job.output);
  if (import != nullptr)
    set_import(settings, job);
  else
    set_index(kind, settings, job);
  job.engine = *text_of(settings, "engine");
  job.isa = *text_of(settings, "isa");
  job.balance = rank::parse_balance(*text_of(settings, "balance"));
  if (const std::string* merge = text_of(settings, "merge")) job.merge = *merge;
  if (const std::string* router = text_of(settings, "router")) job.router = *router;
  job.batch = count_or(settings, "batch", 0);
  if (const std::string* memory = text_of(settings, "memory")) job.memory_bytes = rank::parse_bytes(*memory);
  job.threads = narrow<int>(count_or(settings, "threads", 0));
  if (const std::string* range = text_of(settings, "queries-range")) job.queries_range = parse_range(*range);
  if (const std::string* part = text_of(settings, "part")) std::tie(job.part, job.parts) = parse_part(*part);
  if (const std::string* what = text_of(settings, "nonfinite")) job.drop_nonfinite = *what == "drop";
  if (const std::string* what = text_of(settings, "symmetrize"))
    job.symmetry = rank::symmetry_from_string(*what);
  job.overwrite = is_set(settings, "overwrite");
  job.resume = !is_set(settings, "no-resume");
  job.self_check_queries = count_or(settings, "self-check", job.self_check_queries);
  if (const std::string* file = text_of(settings, "job")) job.settings_files.push_back(*file);
  if (const std::string* log = text_of(settings, "log")) job.log_folder = *log;
  job.checkpoint_seconds = static_cast<double>(count_or(settings, "checkpoint", 30));
  job.command_line = command_line;
  std::error_code unknown;  // a folder that is gone has no name
  job.working_folder = std::filesystem::current_path(unknown).string();
  job.configuration = to_toml(settings, false, options_of(kind));
  options.dry_run = is_set(settings, "dry-run");
  options.json = is_set(settings, "json");
  options.quiet = is_set(settings, "quiet");
  options.verbose = is_set(settings, "verbose");
  options.report = is_set(settings, "report");
  return options;
}

}  // namespace mpishards::app

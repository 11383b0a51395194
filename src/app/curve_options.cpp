#include "app/curve_options.hpp"

#include <algorithm>
#include <sstream>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/input_spec.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::app {

namespace {

std::vector<OptionRow> make_table() {
  using enum OptionKind;
  return {
      {"base", 0, list, "", 0, nullptr, "INDEX",
       "index directory with lists or a graph, see mpishards build"},
      *find_option("queries"),
      {"k", 'k', count, "100", 1, nullptr, "N", "neighbors per query"},
      {"nprobe", 0, text, "", 0, nullptr, "N,N,...",
       "lists that a query looks into (default: the powers of two and all lists)"},
      {"ef-search", 0, text, "", 0, nullptr, "N,N,...",
       "the same of a graph that FAISS built (default: the powers of two from 16 to 512)"},
      *find_option("rerank"),
      {"truth", 0, text, "", 0, nullptr, "FILE",
       "exact neighbors of all queries, of any format of eval (default: searched first, in all lists)"},
      {"repeat", 0, count, "3", 1, nullptr, "N", "timed searches of each, after one to warm up"},
      {"peers", 0, list, "", 0, nullptr, "FILE.json",
       "curves of other programs or indexes for the same plot; repeats"},
      {"output", 'o', text, "", 0, nullptr, "FILE",
       "the plot: .html with tables, .svg or .png alone (default: none)"},
      *find_option("job"),
      *find_option("engine"),
      *find_option("isa"),
      *find_option("balance"),
      *find_option("merge"),
      *find_option("router"),
      *find_option("memory"),
      *find_option("threads"),
      *find_option("overwrite"),
      *find_option("json"),
      *find_option("quiet"),
  };
}

std::vector<std::string> values_of(const Settings& settings, std::string_view name) {
  const auto found = settings.find(name);
  return found == settings.end() ? std::vector<std::string>() : found->second.values;
}

/// The one folder that --base names.
std::string index_directory_of(const Settings& settings) {
  const std::vector<std::string> base = values_of(settings, "base");
  if (base.empty())
    throw Error(ErrorKind::usage, "--base is missing; give an index directory, such as --base emb.index");
  if (base.size() > 1)
    throw Error(ErrorKind::usage, "--base names " + std::to_string(base.size()) +
                                      " inputs; a curve is that of one index directory");
  const std::string path = io::parse_input_spec(base.front()).path;
  if (!io::is_index_directory(path))
    throw Error(ErrorKind::usage, "--base " + path +
                                      " is no index directory; --curve sweeps the lists of an index, which "
                                      "mpishards build makes");
  return path;
}

/// What the index is searched with, one after the other.
std::vector<std::int64_t> swept_values(const Settings& settings, const io::IndexManifest& index) {
  const std::string swept = swept_parameter(index);
  for (const std::string_view name : {"nprobe", "ef-search"})
    if (name != swept && !text_or_empty(settings, name).empty())
      throw Error(ErrorKind::usage, "--" + std::string(name) + " is not what this index is swept by" +
                                        (swept.empty() ? "" : ", which is --" + swept) + "; leave it out");
  if (swept.empty())
    throw Error(ErrorKind::usage, "this index of FAISS has nothing to sweep: every query looks at all of it");
  const std::string text = text_or_empty(settings, swept);
  if (swept == "ef-search" && text.empty()) return rank::usual_ef_searches();
  return parse_nprobes(text, index.faiss.factory.empty() ? index.nlist : index.faiss.most, swept);
}

bool is_plot_name(const std::string& path) {
  return path.ends_with(".html") || path.ends_with(".svg") || path.ends_with(".png");
}

}  // namespace

OptionTable curve_options() {
  static const std::vector<OptionRow> table = make_table();
  return table;
}

CurveOptions to_curve_options(const Settings& settings, const std::string& command_line) {
  CurveOptions options;
  options.index_directory = index_directory_of(settings);
  options.index = io::read_index(options.index_directory);
  options.truth = text_or_empty(settings, "truth");
  options.peers = values_of(settings, "peers");
  options.output = text_or_empty(settings, "output");
  options.overwrite = is_set(settings, "overwrite");
  options.json = is_set(settings, "json");
  options.quiet = is_set(settings, "quiet");
  options.command_line = command_line;
  if (!options.output.empty() && !is_plot_name(options.output))
    throw Error(ErrorKind::usage,
                "--output " + options.output + ": a plot is .html, .svg or .png; rename it");
  if (!options.peers.empty() && options.output.empty() && !options.json)
    throw Error(ErrorKind::usage, "--peers are for the plot; name it with -o PAGE.html");

  rank::CurveTask& task = options.task;
  task.nprobes = swept_values(settings, options.index);
  task.repeats = parse_count(text_or_empty(settings, "repeat"));
  task.needs_truth = options.truth.empty();
  rank::SearchJobConfig& job = task.job;
  job.index_directory = options.index_directory;
  job.base = io::index_inputs(options.index_directory, options.index);
  for (const std::string& text : values_of(settings, "queries"))
    job.queries.push_back(io::parse_input_spec(text));
  if (job.queries.empty())
    throw Error(ErrorKind::usage, "--queries is missing; give for instance --queries emb.h5:/test");
  job.metric = options.index.metric;
  job.index = options.index.type;
  job.k = parse_count(text_or_empty(settings, "k"));
  job.rerank = parse_count(text_or_empty(settings, "rerank"));
  if (const Setting& said = settings.at("rerank"); said.origin != Origin::built_in &&
                                                   options.index.codes.codec.empty() &&
                                                   options.index.faiss.factory.empty())
    throw Error(ErrorKind::usage, said.where + " is for an index with codes or of FAISS; " +
                                      options.index_directory + " is neither");
  job.engine = text_or_empty(settings, "engine");
  job.isa = text_or_empty(settings, "isa");
  job.balance = rank::parse_balance(text_or_empty(settings, "balance"));
  job.merge = text_or_empty(settings, "merge");
  job.router = text_or_empty(settings, "router");
  if (const std::string memory = text_or_empty(settings, "memory"); !memory.empty())
    job.memory_bytes = rank::parse_bytes(memory);
  if (const std::string threads = text_or_empty(settings, "threads"); !threads.empty())
    job.threads = narrow<int>(parse_count(threads));
  return options;
}

std::string swept_parameter(const io::IndexManifest& index) {
  return index.faiss.factory.empty() ? "nprobe" : index.faiss.parameter;
}

std::vector<std::int64_t> parse_nprobes(const std::string& text, std::int64_t lists,
                                        const std::string& name) {
  if (text.empty()) return rank::usual_nprobes(lists);
  std::vector<std::int64_t> nprobes;
  std::istringstream parts(text + ",");
  for (std::string part; std::getline(parts, part, ',');) {
    std::int64_t nprobe = 0;
    try {
      nprobe = parse_count(part);
    } catch (const Error& error) {
      throw Error(ErrorKind::usage, "--" + name + " " + text + ": " + error.what());
    }
    if (nprobe < 1 || nprobe > lists)
      throw Error(ErrorKind::usage,
                  "--" + name + " " + text + ": " + part + " is outside 1 to " + std::to_string(lists) +
                      (name == "nprobe" ? ", the lists of the index" : ", the rows of the index"));
    nprobes.push_back(nprobe);
  }
  std::ranges::sort(nprobes);
  if (const auto twice = std::ranges::adjacent_find(nprobes); twice != nprobes.end())
    throw Error(ErrorKind::usage,
                "--" + name + " " + text + ": " + std::to_string(*twice) + " is there twice");
  return nprobes;
}

}  // namespace mpishards::app

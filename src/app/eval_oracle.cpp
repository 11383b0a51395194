#include "app/eval_oracle.hpp"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "app/result_attributes.hpp"
#include "core/error.hpp"
#include "io/input_spec.hpp"

namespace mpishards::app {

namespace {

/// A result whose inputs are wanted.
struct SearchedResult {
  const io::Attributes& attributes;
  const std::string& path;
  std::string folder;  // in which the search ran; empty where the result does not say
};

/// One of its inputs, "base" or "queries".
struct NamedInput {
  std::string name;
  std::string default_dataset;
  std::vector<std::string> given;  // its new place; empty: where it was
};

/// A line of the result's attribute: from this folder if the file is here, else from the search's folder.
io::InputSpec locate(const SearchedResult& result, const NamedInput& input, const std::string& line) {
  const io::InputSpec here = io::parse_input_spec(line);
  if (io::exists(here.path)) return here;
  const io::InputSpec there = io::parse_input_spec((std::filesystem::path(result.folder) / line).string());
  if (!io::exists(there.path)) {
    const bool looked_twice = there.path != here.path;
    throw Error(ErrorKind::input_missing,
                here.path + ", which " + result.path + " was computed from, is not here" +
                    (looked_twice ? ", nor in " + result.folder + ", where the search ran" : "") +
                    "; name its new place with --" + input.name);
  }
  return there;
}

std::vector<io::InputSpec> specs_of_input(const SearchedResult& result, const NamedInput& input) {
  if (!input.given.empty()) return io::expand_inputs(input.given, input.default_dataset);
  std::vector<io::InputSpec> specs;
  std::istringstream lines(required_attribute<std::string>(result.attributes, result.path, input.name));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) specs.push_back(locate(result, input, line));
  return specs;
}

std::string changed_size(std::int64_t then, std::int64_t now) {
  if (then == now) return "other contents in as many bytes";
  return "it had " + std::to_string(then) + " bytes, has " + std::to_string(now);
}

/// Compares the files with those that were searched. Another time stamp is a warning, other contents an
/// error.
void check_identity(const SearchedResult& result, const NamedInput& input,
                    const std::vector<io::InputSpec>& specs) {
  const std::optional<std::string> text = attribute<std::string>(result.attributes, input.name + "_identity");
  if (!text) {
    std::fprintf(
        stderr, "mpishards: warning: the result does not say what its %s looked like; it is taken as it is\n",
        input.name.c_str());
    return;
  }
  const nlohmann::json identities = nlohmann::json::parse(*text, nullptr, false);
  if (!identities.is_array() || identities.size() != specs.size())
    throw Error(ErrorKind::data, "the result was computed from " + std::to_string(identities.size()) +
                                     " files of " + input.name + ", here are " +
                                     std::to_string(specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const io::InputIdentity now = io::identify(specs[i].path);
    const nlohmann::json& then = identities[i];
    if (then.value("size_bytes", std::int64_t{0}) != now.size_bytes ||
        then.value("checksum", std::uint64_t{0}) != now.checksum)
      throw Error(ErrorKind::data,
                  now.path + " has changed since the search (" +
                      changed_size(then.value("size_bytes", std::int64_t{0}), now.size_bytes) +
                      "); restore it, name its place with --" + input.name + ", or search again");
    if (then.value("mtime_ns", std::int64_t{0}) != now.mtime_ns)
      std::fprintf(stderr, "mpishards: warning: %s has another time stamp than when it was searched\n",
                   now.path.c_str());
  }
}

std::unique_ptr<io::VectorSource> open_input(const SearchedResult& result, const NamedInput& input) {
  const std::vector<io::InputSpec> specs = specs_of_input(result, input);
  check_identity(result, input, specs);
  for (const io::InputSpec& spec : specs) io::probe_in_child(spec);
  return io::open_sources(specs);
}

/// Checks that the result's rows and the queries' and base's fit what its attributes say.
void check_ranges(const OracleTask& task, std::int64_t nq, const std::string& result_path) {
  if (task.query_begin < 0 || task.query_begin + nq > task.queries->rows())
    throw Error(ErrorKind::data, result_path + " answers queries from " + std::to_string(task.query_begin) +
                                     " to " + std::to_string(task.query_begin + nq) + ", but " +
                                     task.queries->name() + " has " + std::to_string(task.queries->rows()));
  if (task.base_begin < 0 || task.base_begin > task.base_end || task.base_end > task.base->rows())
    throw Error(ErrorKind::data, result_path + " covers base rows from " + std::to_string(task.base_begin) +
                                     " to " + std::to_string(task.base_end) + ", but " + task.base->name() +
                                     " has " + std::to_string(task.base->rows()));
}

MatrixInQuestion matrix_in_question(const io::CsrReader& matrix) {
  const io::Attributes& attributes = matrix.attributes();
  return {&matrix, static_cast<float>(required_attribute<double>(attributes, matrix.name(), "eps")),
          attribute<std::string>(attributes, "pairs").value_or("") == "once"};
}

}  // namespace

OracleReport judge_by_oracle(const OracleRequest& request) {
  const std::string& path = request.result_path;
  const auto matrix = io::open_range_matrix(path);
  const auto result = matrix ? nullptr : io::open_result(path);
  const io::Attributes& attributes = matrix ? matrix->attributes() : result->attributes();
  const std::int64_t nq = matrix ? matrix->shape().rows : result->nq();
  if (const auto covered = attribute<std::string>(attributes, "base_covered"))
    throw Error(ErrorKind::data, path + " was merged without all parts: it covers base rows " + *covered +
                                     " only; merge it again when the others are there");
  const SearchedResult searched{attributes, path,
                                attribute<std::string>(attributes, "working_folder").value_or("")};
  const auto base = open_input(searched, {"base", "train", request.base});
  const auto queries = open_input(searched, {"queries", "test", request.queries});
  OracleTask task;
  task.base = base.get();
  task.queries = queries.get();
  task.result = result.get();
  if (matrix) task.matrix = matrix_in_question(*matrix);
  task.metric = metric_from_string(required_attribute<std::string>(attributes, path, "metric"));
  task.query_begin = attribute<std::int64_t>(attributes, "query_begin").value_or(0);
  task.base_begin = attribute<std::int64_t>(attributes, "base_begin").value_or(0);
  task.base_end = attribute<std::int64_t>(attributes, "base_end").value_or(base->rows());
  task.drop_nonfinite = attribute<std::string>(attributes, "nonfinite").value_or("error") == "drop";
  task.exclude_self = attribute<std::int64_t>(attributes, "self_excluded").value_or(0) != 0;
  task.in_lists = attribute<std::int64_t>(attributes, "nprobe").value_or(0) > 0 ||
                  attribute<std::string>(attributes, "faiss").has_value();
  task.threads = request.threads;
  check_ranges(task, nq, path);
  return {nq, matrix != nullptr, base->name(), queries->name(),
          consult_oracle(task, sample_rows(nq, request.count, request.seed))};
}

}  // namespace mpishards::app

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/dataset_list.hpp"
#include "io/file.hpp"
#include "io/index_directory.hpp"
#include "io/results_writer.hpp"
#include "io/vector_source.hpp"
#include "rank/build_job.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::app {

namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{16} << 20;

struct Stats {
  double min = std::numeric_limits<double>::infinity();
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0;
  double min_norm = std::numeric_limits<double>::infinity();
  double max_norm = 0;
  double sum_norms = 0;
  std::int64_t finite_rows = 0;
  std::int64_t nonfinite_rows = 0;
  std::int64_t zero_rows = 0;
};

void add_row(Stats& stats, const double* row, std::int64_t cols) {
  double squares = 0;
  double sum = 0;
  for (std::int64_t i = 0; i < cols; ++i) {
    squares += row[i] * row[i];
    sum += row[i];
  }
  if (!std::isfinite(squares)) {
    ++stats.nonfinite_rows;
    return;
  }
  const double norm = std::sqrt(squares);
  const auto [low, high] = std::minmax_element(row, row + cols);
  stats.min = std::min(stats.min, *low);
  stats.max = std::max(stats.max, *high);
  stats.sum += sum;
  stats.min_norm = std::min(stats.min_norm, norm);
  stats.max_norm = std::max(stats.max_norm, norm);
  stats.sum_norms += norm;
  ++stats.finite_rows;
  if (norm == 0) ++stats.zero_rows;
}

Stats stats_of(const io::VectorSource& source) {
  Stats stats;
  const std::int64_t cols = source.cols();
  const std::int64_t step =
      std::clamp<std::int64_t>(kBlockBytes / (8 * cols), 1, std::max<std::int64_t>(source.rows(), 1));
  std::vector<double> values(static_cast<std::size_t>(step * cols));
  for (std::int64_t begin = 0; begin < source.rows(); begin += step) {
    const std::int64_t end = std::min(begin + step, source.rows());
    const Matrix block = source.read_matrix(begin, end);
    convert_elements(source.dtype(), block.data(), DType::f64, reinterpret_cast<std::byte*>(values.data()),
                     (end - begin) * cols);
    for (std::int64_t row = 0; row < end - begin; ++row) add_row(stats, values.data() + row * cols, cols);
  }
  return stats;
}

nlohmann::json stats_json(const io::VectorSource& source) {
  const Stats stats = stats_of(source);
  nlohmann::json json = {{"nonfinite_rows", stats.nonfinite_rows}, {"zero_rows", stats.zero_rows}};
  if (stats.finite_rows == 0) return json;
  const auto rows = static_cast<double>(stats.finite_rows);
  json.update({{"min", stats.min},
               {"max", stats.max},
               {"mean", stats.sum / rows / static_cast<double>(source.cols())},
               {"min_norm", stats.min_norm},
               {"max_norm", stats.max_norm},
               {"mean_norm", stats.sum_norms / rows}});
  return json;
}

nlohmann::json describe_source(const io::InputSpec& spec, bool with_stats) {
  io::probe_in_child(spec);
  const std::unique_ptr<io::VectorSource> source = io::open_source(spec);
  const io::StoredElement stored = source->stored_element();
  nlohmann::json json = {{"format", source->format()},
                         {"rows", source->rows()},
                         {"cols", source->cols()},
                         {"dtype", stored.type},
                         {"layout", source->layout()},
                         {"bytes", source->rows() * source->cols() * narrow<std::int64_t>(stored.bytes)},
                         {"has_ids", source->has_ids()}};
  if (stored.type != to_string(source->dtype())) json["read_as"] = to_string(source->dtype());
  if (!spec.dataset.empty()) json["dataset"] = spec.dataset;
  if (with_stats) json["stats"] = stats_json(*source);
  return json;
}

/// A data set that is no matrix (strings, one dimension) is listed with the reason instead of a shape.
nlohmann::json describe_dataset(const std::string& path, const std::string& dataset, bool with_stats) {
  try {
    return describe_source({path, dataset}, with_stats);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    return {{"dataset", dataset}, {"unreadable", error.what()}};
  }
}

/// Whether a data set holds the ids of vectors beside it.
bool holds_ids(const std::string& dataset, const nlohmann::json& rows) {
  return std::ranges::any_of(rows, [&](const nlohmann::json& row) {
    return row.value("has_ids", false) && io::ids_beside(row.value("dataset", "")) == dataset;
  });
}

/// The ids of vectors are named as such, instead of as a matrix that can't be read.
void name_ids(nlohmann::json& rows) {
  for (nlohmann::json& row : rows)
    if (row.contains("unreadable") && holds_ids(row["dataset"].get<std::string>(), rows)) {
      row.erase("unreadable");
      row["ids"] = true;
    }
}

nlohmann::json to_json(const io::Attributes& attributes) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : attributes)
    std::visit([&, &key = name](const auto& v) { json[key] = v; }, value);
  return json;
}

/// An index directory: what its manifest and its lists say. The vectors are not read.
nlohmann::json describe_index(const std::string& path) {
  const io::IndexManifest manifest = io::read_index(path);
  const rank::ListStatistics lists = rank::list_statistics(io::read_lists(path, manifest).starts);
  std::int64_t bytes = 0;
  for (const io::IndexShard& shard : manifest.shards) bytes += shard.size_bytes + shard.faiss_bytes;
  return {{"path", path},
          {"file_bytes", bytes},
          {"index",
           {{"type", manifest.type},
            {"codec", manifest.codes.codec},
            {"factory", manifest.faiss.factory},
            {"metric", to_string(manifest.metric)},
            {"rows", manifest.rows},
            {"cols", manifest.d},
            {"dtype", to_string(manifest.dtype)},
            {"shards", manifest.shards.size()},
            {"lists", manifest.nlist},
            {"smallest_list", lists.smallest},
            {"median_list", lists.median},
            {"largest_list", lists.largest}}},
          {"attributes", to_json(manifest.facts)}};
}

nlohmann::json describe_file(const std::string& text, bool with_stats) {
  if (io::is_index_directory(text)) return describe_index(text);
  const io::InputSpec spec = io::parse_input_spec(text);
  nlohmann::json file = {{"path", spec.path}, {"file_bytes", io::File::open_read(spec.path).size_bytes()}};
  if (spec.dataset.empty()) io::probe_listing_in_child(spec.path);
  const std::vector<std::string> datasets =
      spec.dataset.empty() ? io::list_datasets(spec.path) : std::vector<std::string>();
  nlohmann::json& rows = file["datasets"] = nlohmann::json::array();
  for (const std::string& dataset : datasets)
    rows.push_back(describe_dataset(spec.path, dataset, with_stats));
  name_ids(rows);
  if (datasets.empty()) rows.push_back(describe_source(spec, with_stats));
  if (std::ranges::find(datasets, "/neighbors") != datasets.end())
    file["attributes"] = to_json(io::open_result(spec.path)->attributes());
  return file;
}

/// What is wrong with a file takes its place in the list: the others are described all the same.
nlohmann::json describe_or_complain(const std::string& text, bool with_stats, int& worst_code) {
  try {
    return describe_file(text, with_stats);
  } catch (const Error& error) {
    print_failure(error);
    worst_code = std::max(worst_code, exit_code(error.kind()));
    return {{"path", text}, {"error", {{"kind", to_string(error.kind())}, {"message", error.what()}}}};
  }
}

std::string plain(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void print_dataset(const nlohmann::json& row) {
  const std::string name = row.value("dataset", "");
  if (row.contains("ids")) {
    std::printf("  %-16s ids of the vectors beside it\n", name.c_str());
    return;
  }
  if (row.contains("unreadable")) {
    std::printf("  %-16s %s\n", name.c_str(), plain(row["unreadable"]).c_str());
    return;
  }
  const std::string read_as = row.contains("read_as") ? " (read as " + plain(row["read_as"]) + ")" : "";
  std::printf("  %-16s %lld x %lld %s%s  %s  %s, %s%s\n", name.c_str(),
              static_cast<long long>(row["rows"].get<std::int64_t>()),
              static_cast<long long>(row["cols"].get<std::int64_t>()), plain(row["dtype"]).c_str(),
              read_as.c_str(), rank::format_bytes(row["bytes"].get<std::int64_t>()).c_str(),
              plain(row["format"]).c_str(), plain(row["layout"]).c_str(),
              row["has_ids"].get<bool>() ? ", own ids" : "");
  if (!row.contains("stats")) return;
  std::string line;
  for (const auto& [key, value] : row["stats"].items())
    line += (line.empty() ? "" : ", ") + key + " " + value.dump();
  std::printf("  %-16s %s\n", "", line.c_str());
}

void print_index(const nlohmann::json& index) {
  const std::string codec = plain(index["codec"]);
  const std::string factory = plain(index["factory"]);
  const std::string details = !factory.empty() ? ":" + factory : codec.empty() ? "" : "," + codec;
  std::printf(
      "  index %s%s  %lld x %lld %s, %s, %lld shards, %lld lists of %lld to %lld rows (median %lld)\n",
      plain(index["type"]).c_str(), details.c_str(),
      static_cast<long long>(index["rows"].get<std::int64_t>()),
      static_cast<long long>(index["cols"].get<std::int64_t>()), plain(index["dtype"]).c_str(),
      plain(index["metric"]).c_str(), static_cast<long long>(index["shards"].get<std::int64_t>()),
      static_cast<long long>(index["lists"].get<std::int64_t>()),
      static_cast<long long>(index["smallest_list"].get<std::int64_t>()),
      static_cast<long long>(index["largest_list"].get<std::int64_t>()),
      static_cast<long long>(index["median_list"].get<std::int64_t>()));
}

void print_file(const nlohmann::json& file) {
  if (file.contains("error")) return;
  std::printf("%s  %s\n", plain(file["path"]).c_str(),
              rank::format_bytes(file["file_bytes"].get<std::int64_t>()).c_str());
  if (file.contains("index")) print_index(file["index"]);
  if (file.contains("datasets"))
    for (const nlohmann::json& row : file["datasets"]) print_dataset(row);
  if (!file.contains("attributes")) return;
  std::printf("  attributes:\n");
  for (const auto& [key, value] : file["attributes"].items())
    std::printf("    %s = %s\n", key.c_str(), plain(value).c_str());
}

}  // namespace

int run_info(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("info", "FILE[:DATASET]... [--json] [--stats]",
          "Says what is in vector files, results and index directories: format, data sets, shape, dtype, "
          "layout, size, ids, lists, attributes.",
          "mpishards info emb.h5 queries.fbin result.h5 --stats");
  cli.add()("files", "files to describe", cxxopts::value<std::vector<std::string>>(), "FILE")(
      "json", "one JSON document")(
      "stats", "read everything: range of values and norms, rows with NaN or infinity, zero rows");
  cli.positional({"files"});
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  if (options->count("files") == 0)
    throw Error(ErrorKind::usage, "which file? for example: mpishards info emb.h5");
  nlohmann::json files = nlohmann::json::array();
  int worst_code = 0;
  for (const std::string& text : (*options)["files"].as<std::vector<std::string>>())
    files.push_back(describe_or_complain(text, options->count("stats") > 0, worst_code));
  if (options->count("json") > 0)
    std::printf("%s\n", nlohmann::json{{"schema", "mpishards.info/1"}, {"files", files}}.dump(2).c_str());
  else
    for (const nlohmann::json& file : files) print_file(file);
  return worst_code;
}

}  // namespace mpishards::app

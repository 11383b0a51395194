#include "rank/job_attributes.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <vector>

#include "core/hex.hpp"
#include "core/version.hpp"
#include "rank/job_output.hpp"

namespace mpishards::rank {

namespace {

std::string joined_names(const std::vector<io::InputSpec>& specs) {
  std::string text;
  for (const io::InputSpec& spec : specs) text += (text.empty() ? "" : "\n") + io::to_string(spec);
  return text;
}

void add_recall(const RecallEstimate& recall, io::Attributes& attributes) {
  attributes["recall_queries"] = recall.queries;
  if (recall.queries == 0) return;
  attributes["recall"] = recall.recall;
  attributes["recall_low"] = recall.low;
  attributes["recall_high"] = recall.high;
}

}  // namespace

std::string distance_name(Metric metric) {
  switch (metric) {
    case Metric::l2:
      return "euclidean_squared";
    case Metric::ip:
      return "inner_product";
    case Metric::cosine:
      return "cosine_similarity";
  }
  return "";
}

std::string hosts_of(const std::vector<RankReport>& ranks) {
  std::vector<std::string> hosts;
  for (const RankReport& rank : ranks)
    if (std::ranges::find(hosts, rank.host) == hosts.end()) hosts.push_back(rank.host);
  std::string text;
  for (const std::string& host : hosts) text += (text.empty() ? "" : ",") + host;
  return text;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

io::Attributes origin_attributes(const SearchJobConfig& config, const std::string& started) {
  return {
      {"base", joined_names(config.base)},
      {"base_identity", identities_json(config.base)},
      {"command_line", config.command_line},
      {"working_folder", config.working_folder},
      {"configuration", config.configuration},
      {"version", std::string(version())},
      {"revision", std::string(revision())},
      {"started", started},
      {"ended", utc_now()},
  };
}

io::Attributes result_attributes(const SearchJobConfig& config, const JobInputs& inputs,
                                 const SearchSummary& summary, const RunFacts& facts) {
  io::Attributes attributes = {
      {"metric", std::string(to_string(config.metric))},
      {"distance", distance_name(config.metric)},
      {"k", config.k},
      {"nq", summary.shape.nq},
      {"nb", inputs.base->rows()},
      {"d", summary.shape.d},
      {"queries", joined_names(config.queries)},
      {"queries_identity", identities_json(config.queries)},
      {"base_content_hash", hex(facts.base_hash)},
      {"queries_content_hash", hex(facts.queries_hash)},
      {"query_begin", inputs.query_rows.begin},
      {"query_end", inputs.query_rows.end},
      {"base_begin", inputs.base_rows.begin},
      {"base_end", inputs.base_rows.end},
      {"nonfinite", std::string(config.drop_nonfinite ? "drop" : "error")},
      {"dropped_rows", summary.dropped_rows},
      {"self_excluded", std::int64_t{config.exclude_self}},
      {"symmetrized", std::string(to_string(config.symmetry))},
      {"index", config.index},
      {"engine", facts.engine},
      {"devices", facts.device},
      {"merge", summary.merge},
      {"n_ranks", std::int64_t{summary.shape.n_ranks}},
      {"hosts", hosts_of(summary.ranks)},
      {"resumes", std::int64_t{summary.resumes}},
  };
  attributes.merge(origin_attributes(config, facts.started));
  if (inputs.lists) {
    attributes["index_directory"] = config.index_directory;
    attributes["nlist"] = inputs.lists->count();
    attributes["nprobe"] = summary.nprobe;
    if (inputs.codes) {
      attributes["codec"] = inputs.index->codes.codec;
      attributes["rerank"] = summary.shape.rerank;
    }
  }
  if (inputs.has_faiss) {
    attributes["index_directory"] = config.index_directory;
    attributes["faiss"] = inputs.index->faiss.factory;
    attributes["rerank"] = summary.shape.rerank;
    if (summary.faiss_parameter > 0) attributes["faiss_parameter"] = summary.faiss_parameter;
  }
  if (inputs.lists || inputs.has_faiss) add_recall(summary.recall, attributes);
  if (!config.range) return attributes;
  attributes.erase("k");
  attributes["eps"] = static_cast<double>(config.range->eps);
  if (config.range->pairs != kernels::RangePairs::all)
    attributes["pairs"] = std::string(config.range->pairs == kernels::RangePairs::later ? "once" : "both");
  if (const auto& found = summary.clusters) {
    attributes["clusters"] = found->clusters;
    attributes["largest_cluster"] = found->largest;
    attributes["removed_rows"] = found->removed;
  }
  return attributes;
}

}  // namespace mpishards::rank

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/results_writer.hpp"
#include "rank/job_inputs.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// What a run knows of itself beside its configuration and summary.
struct RunFacts {
  std::uint64_t base_hash = 0;  // sum of row hashes
  std::uint64_t queries_hash = 0;
  std::string engine;  // "cpu"
  std::string device;  // Index::description
  std::string started;
};

/// Where a result comes from, for its attributes (docs/result-format.md has the list).
io::Attributes result_attributes(const SearchJobConfig& config, const JobInputs& inputs,
                                 const SearchSummary& summary, const RunFacts& facts);

/// The part of it that every output has: base, command line, configuration, version and times.
io::Attributes origin_attributes(const SearchJobConfig& config, const std::string& started);

/// What a result says of its distances: "euclidean_squared", "inner_product", "cosine_similarity".
std::string distance_name(Metric metric);

/// Different hosts, in rank order, separated by commas.
std::string hosts_of(const std::vector<RankReport>& ranks);

/// "2026-03-01T12:00:00Z"
std::string utc_now();

}  // namespace mpishards::rank

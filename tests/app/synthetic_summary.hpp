#pragma once

#include <cstdint>
#include <string>

#include "rank/search_job.hpp"

namespace mpishards::app::test {

/// A finished run of `n_ranks` ranks over 100 s whose phases sum to the wall time on every rank.
inline rank::SearchSummary synthetic_summary(int n_ranks) {
  rank::SearchSummary summary;
  summary.shape = {
      .rows = 1'000'000, .d = 128, .dtype = DType::f32, .nq = 10'000, .k = 10, .eps = {}, .n_ranks = n_ranks};
  summary.plan.search_seconds = 55;
  summary.plan.memory_bytes = std::int64_t{600} << 20;
  summary.plan.read_bytes = 512'000'000;
  summary.merge = "all_to_all";
  summary.wall_seconds = 100;
  summary.pure_read_seconds = 8;
  summary.queries_done = 10'000;
  summary.counters = {.queries = 10'000 * n_ranks,
                      .certified = 9'990 * n_ranks,
                      .widened = 10 * n_ranks,
                      .candidates = 250'000 * n_ranks,
                      .reranked = 260'000 * n_ranks,
                      .distances = 10'000'000'000};
  summary.self_check = {.queries = 16, .max_relative_error = 3e-8};
  summary.result_paths = {"out.h5"};
  for (int r = 0; r < n_ranks; ++r) {
    rank::RankReport report;
    report.rank = r;
    report.host = "node" + std::to_string(100 + r / 4) + ".cluster.example.org";
    report.engine = "cpu avx2 (OpenBLAS sgemm)";
    report.threads = 2;
    report.rows = 1'000'000 / n_ranks;
    report.bytes_read = 512'000'000 / n_ranks;
    report.peak_rss_bytes = (std::int64_t{650} + r) << 20;
    report.roof_flops_per_second = 1e11;
    double now = 0;
    const auto stay = [&](Phase phase, double seconds) {
      report.phase_seconds[static_cast<std::size_t>(phase)] += seconds;
      report.spans.push_back({phase, now, now + seconds});
      now += seconds;
    };
    stay(Phase::other, 1);
    stay(Phase::read, 9 + r % 3);
    for (int batch = 0; batch < 10; ++batch) {
      stay(Phase::scatter, 0.3);
      stay(Phase::search, 6 + 0.1 * (r % 5));
      stay(Phase::merge, 0.4);
      stay(Phase::write, 0.2);
    }
    stay(Phase::wait, 100 - now);
    summary.ranks.push_back(report);
  }
  return summary;
}

inline rank::SearchJobConfig synthetic_config() {
  rank::SearchJobConfig config;
  config.base = {{"emb.h5", "train"}};
  config.queries = {{"emb.h5", "test"}};
  config.output = "out.h5";
  config.command_line = "mpishards search --base 'a<b>&c.h5' -o out.h5";
  config.configuration = "k = 10\nmetric = \"l2\"\n";
  return config;
}

}  // namespace mpishards::app::test

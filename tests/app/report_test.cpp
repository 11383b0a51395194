#include "app/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "app/html_page.hpp"
#include "app/html_report.hpp"
#include "app/synthetic_summary.hpp"

namespace mpishards::app {
namespace {

using test::synthetic_config;
using test::synthetic_summary;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

/// Empty if every tag of the page is closed in order and every attribute is quoted; else what is wrong where.
std::string ill_formed(const std::string& page) {
  std::vector<std::string> open;
  for (std::size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const std::size_t end = page.find('>', at);
    if (end == std::string::npos) return "unclosed tag: " + page.substr(at, 40);
    const std::string tag = page.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "a bare < in " + tag.substr(0, 40);
    if (tag.starts_with("!DOCTYPE") || tag.ends_with('/')) continue;
    const std::string name = tag.substr(0, tag.find_first_of(" \n"));
    if (!name.starts_with('/')) {
      open.push_back(name);
    } else {
      if (open.empty() || open.back() != name.substr(1)) return "unexpected <" + name + ">";
      open.pop_back();
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

TEST(ReportNumbers, means_over_ranks_sum_to_the_wall_time) {
  for (const int n_ranks : {1, 4, 7}) {
    const ReportNumbers n = compute_report_numbers(synthetic_summary(n_ranks));
    double means = 0;
    double shares = 0;
    for (const PhaseRow& row : n.phases) {
      means += row.mean_seconds;
      shares += row.share;
      EXPECT_LE(row.min_seconds, row.mean_seconds + 1e-9);
      EXPECT_LE(row.mean_seconds, row.max_seconds + 1e-9);
    }
    EXPECT_NEAR(means, 100, 1e-9);
    EXPECT_NEAR(shares, 1, 1e-9);
  }
}

TEST(ReportNumbers, follow_their_formulas) {
  const ReportNumbers n = compute_report_numbers(synthetic_summary(4));
  EXPECT_DOUBLE_EQ(n.queries_per_second, 100);  // 10000 queries in 100 s
  EXPECT_NEAR(n.search_seconds, 63, 1e-9);      // rank 3: ten batches of 6.3 s
  EXPECT_DOUBLE_EQ(n.flops, 2.56e12);           // 2 * 10000 * 1000000 * 128
  EXPECT_NEAR(n.flops_per_second, 2.56e12 / 63, 1);
  EXPECT_DOUBLE_EQ(n.roof_flops_per_second, 4e11);
  EXPECT_NEAR(n.roof_share, 2.56e12 / 63 / 4e11, 1e-12);
  EXPECT_DOUBLE_EQ(n.read_overhead, 11.5);  // 100 s above a floor of 8 s
  EXPECT_DOUBLE_EQ(n.certified_share, 0.999);
  EXPECT_DOUBLE_EQ(n.candidates_per_query, 25);
  EXPECT_EQ(n.bytes_read, 512'000'000);
  EXPECT_EQ(n.peak_rss_bytes, std::int64_t{653} << 20);
}

TEST(ReportNumbers, of_codes_count_codes_and_name_no_roof) {
  rank::SearchSummary summary = synthetic_summary(4);
  summary.shape.codec = kernels::CodecShape{16, 8};
  summary.shape.rerank = 7;
  summary.nprobe = 3;
  const ReportNumbers n = compute_report_numbers(summary);
  EXPECT_NEAR(n.codes_per_second, 1e10 / 63, 1);  // 10000 x 1000000
  EXPECT_EQ(n.flops_per_second, 0);
  EXPECT_EQ(n.roof_flops_per_second, 0);
  const std::string text = report_text({}, summary);
  EXPECT_NE(text.find("codes/s"), std::string::npos);
  EXPECT_NE(text.find("codes     of 16 bytes a row; 70 candidates a query"), std::string::npos) << text;
  EXPECT_EQ(text.find("certified"), std::string::npos);
}

TEST(ReportNumbers, name_the_slowest_rank) {
  const ReportNumbers n = compute_report_numbers(synthetic_summary(4));
  for (const PhaseRow& row : n.phases) {
    if (row.phase == Phase::search) {
      EXPECT_EQ(row.slowest_rank, 3);
    } else if (row.phase == Phase::read) {
      EXPECT_EQ(row.slowest_rank, 2);
    }
  }
}

TEST(ReportNumbers, an_empty_run_divides_by_nothing) {
  const ReportNumbers n = compute_report_numbers(rank::SearchSummary());
  EXPECT_EQ(n.queries_per_second, 0);
  EXPECT_EQ(n.flops_per_second, 0);
  EXPECT_EQ(n.read_overhead, 0);
  EXPECT_EQ(n.certified_share, 0);
}

TEST(Verdict, is_ok_only_without_any_mismatch) {
  rank::SearchSummary summary = synthetic_summary(1);
  EXPECT_EQ(verdict(summary), "RESULT OK");
  summary.self_check.id_mismatches = 2;
  summary.self_check.first_bad_query = 7;
  EXPECT_FALSE(is_trusted(summary));
  EXPECT_THAT(verdict(summary),
              HasSubstr("RESULT NOT TRUSTED: the fp64 self-check of 16 queries found 2 wrong ids"));
  EXPECT_THAT(verdict(summary), HasSubstr("first in query 7"));
  summary.self_check.id_mismatches = 0;
  summary.self_check.distance_mismatches = 1;
  EXPECT_FALSE(is_trusted(summary));
}

TEST(ReportText, ends_with_the_verdict) {
  EXPECT_THAT(report_text(synthetic_config(), synthetic_summary(4)), EndsWith("\nRESULT OK\n"));
}

TEST(ReportText, says_warnings_and_dropped_rows) {
  rank::SearchSummary summary = synthetic_summary(2);
  summary.warnings = {"2 threads share one core"};
  summary.dropped_rows = 5;
  const std::string text = report_text(synthetic_config(), summary);
  EXPECT_THAT(text, HasSubstr("warning   2 threads share one core\n"));
  EXPECT_THAT(text, HasSubstr("dropped   5 base rows"));
}

TEST(ReportJson, carries_schema_numbers_and_lineage) {
  const nlohmann::json json = report_json(synthetic_config(), synthetic_summary(4));
  EXPECT_EQ(json["schema"], "mpishards.report/1");
  EXPECT_EQ(json["verdict"], "RESULT OK");
  EXPECT_EQ(json["ranks"].size(), 4U);
  EXPECT_EQ(json["phases"].size(), kPhases);
  EXPECT_EQ(json["queries_per_second"], 100.0);
  EXPECT_EQ(json["self_check"]["queries"], 16);
  EXPECT_EQ(json["lineage"]["command_line"], synthetic_config().command_line);
  EXPECT_EQ(nlohmann::json::parse(json.dump()), json);
}

TEST(ReportHtml, is_well_formed_and_needs_nothing_but_itself) {
  for (const int n_ranks : {0, 1, 4, 128}) {
    rank::SearchSummary summary = synthetic_summary(n_ranks);
    summary.warnings = {"a <b> & \"c\""};
    const std::string page = report_html(synthetic_config(), summary);
    EXPECT_EQ(ill_formed(page), "") << n_ranks;
    for (const char* reference : {"http", "src=", "href", "<script", "url(", "@import"})
      EXPECT_THAT(page, Not(HasSubstr(reference)));
    EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot;"));
  }
}

TEST(ReportHtml, has_a_row_with_tooltip_for_every_rank_and_phase) {
  const std::string page = report_html(synthetic_config(), synthetic_summary(128));
  EXPECT_THAT(page, HasSubstr("rank 127 on node131.cluster.example.org: search 62.00 s, 62.0 % of its time"));
  EXPECT_LT(page.size(), 3'000'000U);
}

TEST(ReportHtml, many_short_spans_stay_small) {
  rank::SearchSummary summary = synthetic_summary(16);
  for (rank::RankReport& report : summary.ranks) {
    report.spans.clear();
    for (int i = 0; i < 2048; ++i)
      report.spans.push_back(
          {i % 2 == 0 ? Phase::search : Phase::merge, i * 100.0 / 2048, (i + 1) * 100.0 / 2048});
  }
  EXPECT_LT(report_html(synthetic_config(), summary).size(), 3'000'000U);
}

TEST(Report, states_the_recall_of_a_search_in_some_lists) {
  rank::SearchSummary summary = synthetic_summary(2);
  EXPECT_THAT(report_text(synthetic_config(), summary), Not(HasSubstr("lists")));
  EXPECT_TRUE(report_json(synthetic_config(), summary).at("lists").is_null());
  summary.shape.lists = 24;
  summary.nprobe = 3;
  EXPECT_THAT(report_text(synthetic_config(), summary),
              HasSubstr("lists     3 of 24 a query, recall not measured\n"));
  EXPECT_TRUE(report_json(synthetic_config(), summary).at("lists").at("recall").is_null());
  summary.recall = {.nprobe = 3, .queries = 100, .recall = 0.9, .low = 0.8256, .high = 0.9448};
  EXPECT_THAT(report_text(synthetic_config(), summary),
              HasSubstr("recall 0.9000 (95 % interval 0.8256 to 0.9448; 100 queries)"));
  EXPECT_EQ(report_json(synthetic_config(), summary).at("lists").at("recall").at("queries"), 100);
  const std::string page = report_html(synthetic_config(), summary);
  EXPECT_EQ(ill_formed(page), "");
  EXPECT_THAT(page, HasSubstr("0.9000 (95 % interval 0.8256 to 0.9448)"));
}

TEST(Units, have_three_digits_and_a_prefix) {
  EXPECT_EQ(with_prefix(1.234e12, "FLOP/s"), "1.23 TFLOP/s");
  EXPECT_EQ(with_prefix(999.9e9, "FLOP/s"), "1 TFLOP/s");
  EXPECT_EQ(with_prefix(0, "B/s"), "0 B/s");
  EXPECT_EQ(format_seconds(0.0123), "12.3 ms");
  EXPECT_EQ(format_seconds(12.345), "12.35 s");
  EXPECT_EQ(format_percent(0.4567), "45.7 %");
}

}  // namespace
}  // namespace mpishards::app

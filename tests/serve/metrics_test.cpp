#include "serve/metrics.hpp"

#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "core/version.hpp"
#include "serve/observer_records.hpp"
#include "serve/process_stats.hpp"

namespace mpishards::serve {
namespace {

/// The exposition format, read as far as these tests need it: "name{labels}" to value, and names to types.
struct Exposition {
  std::map<std::string, double> samples;
  std::map<std::string, std::string> types;
  std::set<std::string> helped;
};

Exposition parsed(const std::string& text) {
  Exposition exposition;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, second, name;
    if (line.starts_with("#")) {
      words >> first >> second >> name;
      if (second == "TYPE") words >> exposition.types[name];
      if (second == "HELP") exposition.helped.insert(name);
      continue;
    }
    const std::size_t space = line.rfind(' ');
    EXPECT_TRUE(exposition.samples.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << "twice: " << line;
  }
  return exposition;
}

const Scrape kScrape{true, false, 2, 5, 1 << 20, 1 << 30, 7, 9};

class MetricsTest : public testing::Test {
 protected:
  void SetUp() override { metrics_.collection_changed(make_info()); }
  Exposition read() { return parsed(metrics_.text(kScrape)); }
  double value(const std::string& sample) {
    const auto samples = read().samples;
    const auto found = samples.find(sample);
    if (found == samples.end()) ADD_FAILURE() << "no sample " << sample << " in\n" << metrics_.text(kScrape);
    return found == samples.end() ? -1 : found->second;
  }
  void answer(const std::string& method = "Search", const std::string& collection = "docs",
              Code code = Code::ok) {
    const auto context = make_context(method);
    metrics_.request_begun(*context);
    metrics_.request_finished(make_record(context, collection, code));
  }

  Metrics metrics_;
};

TEST_F(MetricsTest, requests_are_counted_by_front_method_and_status) {
  answer();
  answer();
  answer("Search", "docs", Code::overloaded);
  EXPECT_EQ(value(R"(mpishards_requests_total{front="grpc",method="Search",status="ok"})"), 2);
  EXPECT_EQ(value(R"(mpishards_requests_total{front="grpc",method="Search",status="overloaded"})"), 1);
  EXPECT_EQ(value(R"(mpishards_rejected_total{reason="overloaded"})"), 1);
  EXPECT_EQ(value(R"(mpishards_queries_total{collection="docs"})"), 24);
  EXPECT_EQ(value(R"(mpishards_answer_bytes_total{front="grpc",method="Search"})"), 3 * 960);
}

TEST_F(MetricsTest, inflight_goes_up_and_down) {
  const auto context = make_context();
  metrics_.request_begun(*context);
  EXPECT_EQ(value(R"(mpishards_inflight_requests{front="grpc"})"), 1);
  metrics_.request_finished(make_record(context));
  EXPECT_EQ(value(R"(mpishards_inflight_requests{front="grpc"})"), 0);
}

TEST_F(MetricsTest, seconds_fall_into_buckets_and_milliseconds_into_those_of_milvus) {
  answer();  // 70 ms, 3 ms of them in the queue
  const std::string own = R"(mpishards_request_seconds_bucket{front="grpc",method="Search",le=)";
  EXPECT_EQ(value(own + R"("0.05"})"), 0);
  EXPECT_EQ(value(own + R"("0.1"})"), 1);
  EXPECT_NEAR(value(R"(mpishards_request_seconds_sum{front="grpc",method="Search"})"), 0.07, 1e-12);
  const std::string milvus =
      R"(milvus_proxy_sq_latency_bucket{collection_name="docs",db_name="default",node_id="0",query_type="search",le=)";
  EXPECT_EQ(value(milvus + R"("64"})"), 0);
  EXPECT_EQ(value(milvus + R"("128"})"), 1);
  EXPECT_EQ(value(milvus + R"("+Inf"})"), 1);
  EXPECT_EQ(value(R"(mpishards_queue_seconds_bucket{le="0.005"})"), 1);
  EXPECT_EQ(value(R"(mpishards_queue_seconds_bucket{le="0.0025"})"), 0);
}

TEST_F(MetricsTest, milvus_counts_requests_by_outcome) {
  answer();
  answer("Search", "docs", Code::invalid_parameter);
  answer("Search", "docs", Code::cancelled);
  const auto count = [&](const std::string& status) {
    return value(R"(milvus_proxy_req_count{collection_name="docs",db_name="default",function_name="Search",)"
                 R"(node_id="0",status=")" +
                 status + "\"}");
  };
  EXPECT_EQ(count("total"), 3);
  EXPECT_EQ(count("success"), 1);
  EXPECT_EQ(count("fail"), 1);
  EXPECT_EQ(count("abandon"), 1);
  EXPECT_EQ(value(R"(milvus_proxy_search_vectors_count{collection_name="docs",db_name="default",node_id="0",)"
                  R"(query_type="search"})"),
            8)
      << "of answered searches alone";
}

TEST_F(MetricsTest, batches_show_each_rank) {
  metrics_.batch_finished(*make_batch());
  EXPECT_NEAR(value(R"(mpishards_shard_search_seconds_sum{host="node2",rank="1"})"), 0.05, 1e-12);
  EXPECT_NEAR(value("mpishards_merge_seconds_sum"), 0.025, 1e-12);
  EXPECT_NEAR(value("mpishards_route_seconds_sum"), 0.002, 1e-12);
  EXPECT_EQ(value("mpishards_batch_queries_sum"), 100);
  EXPECT_EQ(value("mpishards_batch_requests_sum"), 3);
  EXPECT_EQ(value(R"(mpishards_vectors_scanned_total{collection="docs"})"), 100 * 1000);
  EXPECT_NEAR(value(R"(mpishards_straggler_ratio{collection="docs"})"), 50.0 / 40.0, 1e-12);
  EXPECT_NEAR(value(R"(milvus_querynode_sq_core_latency_sum{node_id="0",query_type="search"})"), 50, 1e-9);
}

TEST_F(MetricsTest, collections_come_and_go) {
  EXPECT_EQ(value(R"(mpishards_collection_rows{collection="docs"})"), 1000);
  EXPECT_EQ(value(R"(mpishards_shard_bytes{collection="docs",host="node2",rank="1"})"), 25600);
  EXPECT_EQ(value(R"(milvus_querynode_entity_size{node_id="0",segment_state="Sealed"})"), 38400);
  EXPECT_EQ(value(R"(milvus_rootcoord_collection_num{db_name="default"})"), 1);
  metrics_.collection_changed(make_info("docs", LoadState::released));
  EXPECT_EQ(value(R"(mpishards_collection_loaded{collection="docs"})"), 0);
  EXPECT_EQ(value(R"(milvus_querynode_entity_size{node_id="0",segment_state="Sealed"})"), 0);
  EXPECT_FALSE(read().samples.contains(R"(mpishards_shard_bytes{collection="docs",host="node2",rank="1"})"));
}

TEST_F(MetricsTest, names_that_clients_make_up_become_no_series) {
  const std::size_t before = [&] {
    answer("Search", "made_up", Code::collection_not_found);
    return read().samples.size();
  }();
  for (int i = 0; i < 1000; ++i) answer("Search", "made_up_" + std::to_string(i), Code::collection_not_found);
  EXPECT_EQ(read().samples.size(), before);
}

TEST_F(MetricsTest, the_state_of_the_server_is_that_of_the_scrape) {
  EXPECT_EQ(value("mpishards_ready"), 1);
  EXPECT_EQ(value("mpishards_ranks"), 2);
  EXPECT_EQ(value("mpishards_queued_requests"), 5);
  EXPECT_EQ(value("mpishards_queue_limit_bytes"), 1 << 30);
  EXPECT_EQ(value("mpishards_dropped_traces_total"), 7);
  EXPECT_EQ(value("mpishards_dropped_log_lines_total"), 9) << "a counter, whatever the number of scrapes";
  EXPECT_EQ(value(R"(milvus_num_node{role_name="querynode"})"), 2);
}

TEST_F(MetricsTest, every_metric_has_a_type_and_a_help_text) {
  answer();
  answer("Query");
  metrics_.batch_finished(*make_batch());
  const Exposition exposition = read();
  EXPECT_GT(exposition.types.size(), 50U);
  for (const auto& [name, type] : exposition.types) {
    EXPECT_TRUE(exposition.helped.contains(name)) << name;
    const bool is_ours = name.starts_with("mpishards_") || name.starts_with("process_");
    EXPECT_TRUE(!is_ours || (type == "counter") == name.ends_with("_total")) << name;
  }
}

TEST_F(MetricsTest, histograms_are_cumulative) {
  for (int i = 0; i < 10; ++i) answer();
  double last = 0;
  int buckets = 0;
  std::istringstream lines(metrics_.text(kScrape));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("mpishards_request_seconds_bucket")) continue;
    const double count = std::stod(line.substr(line.rfind(' ')));
    EXPECT_GE(count, last);
    last = count;
    ++buckets;
  }
  EXPECT_EQ(last, 10);
  EXPECT_EQ(buckets, 20);
}

TEST_F(MetricsTest, threads_lose_no_count) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) answer();
    });
  }
  for (int i = 0; i < 20; ++i) metrics_.text(kScrape);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value(R"(mpishards_requests_total{front="grpc",method="Search",status="ok"})"), 2000);
  EXPECT_EQ(value(R"(mpishards_inflight_requests{front="grpc"})"), 0);
}

TEST(ProcessStats, is_plausible) {
  const ProcessStats stats = process_stats();
  EXPECT_GT(stats.resident_bytes, 1 << 20);
  EXPECT_GE(stats.virtual_bytes, stats.resident_bytes);
  EXPECT_GE(stats.open_files, 3);
  EXPECT_LT(stats.open_files, 100);
  EXPECT_GE(stats.most_files, stats.open_files);
  EXPECT_NEAR(stats.start_seconds, static_cast<double>(std::time(nullptr)), 120);
}

}  // namespace
}  // namespace mpishards::serve

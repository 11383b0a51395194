#include "serve/trace.hpp"

#include <gtest/gtest.h>
#include <httplib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "core/error.hpp"
#include "serve/observer_records.hpp"

namespace mpishards::serve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kSampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const std::string kUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Keeps what it gets.
class Collector final : public TraceSink {
 public:
  explicit Collector(std::vector<RequestTrace>& traces) : traces_(traces) {}
  std::int64_t write(const std::vector<RequestTrace>& traces) override {
    traces_.insert(traces_.end(), traces.begin(), traces.end());
    return 0;
  }

 private:
  std::vector<RequestTrace>& traces_;
};

std::vector<RequestTrace> traced(const RequestRecord& record, double ratio) {
  std::vector<RequestTrace> traces;
  Tracer tracer(std::make_unique<Collector>(traces), ratio);
  tracer.request_finished(record);
  tracer.flush();
  return traces;
}

TEST(Tracer, the_client_decides_about_its_own_requests) {
  EXPECT_EQ(traced(make_record(make_context("Search", kSampled)), 0).size(), 1U);
  EXPECT_EQ(traced(make_record(make_context("Search", kUnsampled)), 1).size(), 0U);
  EXPECT_EQ(traced(make_record(make_context("Search")), 0).size(), 0U);
  EXPECT_EQ(traced(make_record(make_context("Search")), 1).size(), 1U);
  EXPECT_EQ(traced(make_record(make_context("Search", "garbage")), 1).size(), 1U);
}

TEST(Tracer, spans_of_a_search_have_the_names_of_mishards_and_one_root) {
  const RequestTrace trace =
      trace_of_request(make_record(make_context("Search", kSampled)), std::chrono::system_clock::now());
  EXPECT_EQ(trace.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  std::map<std::string, const Span*> by_name;
  std::map<std::string, const Span*> by_id;
  for (const Span& span : trace.spans) {
    by_name[span.name] = &span;
    by_id[span.id] = &span;
  }
  ASSERT_EQ(by_id.size(), trace.spans.size()) << "ids are unique";
  for (const char* name :
       {"Search", "queue", "get_routing", "do_search", "search_node1", "search_node2", "do_merge"})
    ASSERT_TRUE(by_name.contains(name)) << name;
  EXPECT_EQ(trace.spans.size(), 7U);

  EXPECT_EQ(by_name["Search"]->parent_id, "00f067aa0ba902b7");
  for (const char* name : {"queue", "get_routing", "do_search", "do_merge"})
    EXPECT_EQ(by_name[name]->parent_id, by_name["Search"]->id) << name;
  for (const char* name : {"search_node1", "search_node2"})
    EXPECT_EQ(by_name[name]->parent_id, by_name["do_search"]->id) << name;

  const auto length = [&](const char* name) { return by_name[name]->end_ns - by_name[name]->begin_ns; };
  EXPECT_EQ(length("Search"), 70'000'000);
  EXPECT_EQ(length("queue"), 3'000'000);
  EXPECT_EQ(length("get_routing"), 2'000'000);
  EXPECT_EQ(length("do_search"), 50'000'000) << "the slowest rank's";
  EXPECT_EQ(length("search_node1"), 30'000'000);
  EXPECT_EQ(length("do_merge"), 60'000'000 - 52'000'000) << "what is left of the batch";
  EXPECT_EQ(by_name["get_routing"]->end_ns, by_name["do_search"]->begin_ns);
  EXPECT_EQ(by_name["do_search"]->end_ns, by_name["do_merge"]->begin_ns);
}

TEST(Tracer, a_refused_request_has_one_span_and_its_error) {
  const RequestTrace trace = trace_of_request(make_record(make_context(), "docs", Code::overloaded),
                                              std::chrono::system_clock::now());
  EXPECT_EQ(trace.spans.size(), 1U);
  EXPECT_EQ(trace.error, "overloaded");
}

TEST(Tracer, what_finds_no_room_is_dropped_and_counted) {
  class Stuck final : public TraceSink {
   public:
    explicit Stuck(std::mutex& gate) : gate_(gate) {}
    std::int64_t write(const std::vector<RequestTrace>&) override {
      const std::lock_guard lock(gate_);
      return 0;
    }

   private:
    std::mutex& gate_;
  };
  std::mutex gate;
  std::unique_lock closed(gate);
  Tracer tracer(std::make_unique<Stuck>(gate), 1, 10);
  for (int i = 0; i < 1000; ++i) tracer.request_finished(make_record(make_context()));
  EXPECT_GE(tracer.dropped(), 1000 - 2 * 10);
  closed.unlock();
}

/// The part of OTLP/HTTP that a collector must see.
void check_otlp(const Json& body) {
  const Json& resource = body.at("resourceSpans").at(0);
  EXPECT_EQ(resource.at("resource").at("attributes").at(0),
            Json::parse(R"({"key":"service.name","value":{"stringValue":"mpishards"}})"));
  const Json& spans = resource.at("scopeSpans").at(0).at("spans");
  ASSERT_EQ(spans.size(), 7U);
  for (const Json& span : spans) {
    EXPECT_EQ(span.at("traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
    EXPECT_EQ(span.at("spanId").get<std::string>().size(), 16U);
    EXPECT_EQ(span.at("parentSpanId").get<std::string>().size(), 16U);
    EXPECT_TRUE(span.at("startTimeUnixNano").is_string()) << "64-bit integers are text";
    EXPECT_LE(std::stoll(span.at("startTimeUnixNano").get<std::string>()),
              std::stoll(span.at("endTimeUnixNano").get<std::string>()));
    EXPECT_EQ(span.at("kind"), span.at("name") == "Search" ? 2 : 1);
  }
  const Json wanted = Json::parse(R"({"key":"mpishards.queries","value":{"intValue":"8"}})");
  const Json& attributes = spans.at(0).at("attributes");
  EXPECT_NE(std::find(attributes.begin(), attributes.end(), wanted), attributes.end());
}

TEST(Otlp, posts_spans_to_a_collector) {
  httplib::Server collector;
  std::vector<std::string> bodies;
  std::mutex mutex;
  collector.Post("/v1/traces", [&](const httplib::Request& request, httplib::Response& answer) {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(request.get_header_value("Content-Type"), "application/json");
    bodies.push_back(request.body);
    answer.set_content("{}", "application/json");
  });
  const int port = collector.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { collector.listen_after_bind(); });
  {
    Tracer tracer(make_otlp_sink("http://127.0.0.1:" + std::to_string(port)), 0);
    tracer.request_finished(make_record(make_context("Search", kSampled)));
    tracer.flush();
    EXPECT_EQ(tracer.dropped(), 0);
  }
  collector.stop();
  thread.join();
  ASSERT_EQ(bodies.size(), 1U);
  check_otlp(Json::parse(bodies[0]));
}

TEST(Otlp, a_collector_that_is_away_costs_traces_and_nothing_else) {
  Tracer tracer(make_otlp_sink("http://127.0.0.1:1"), 1);
  tracer.request_finished(make_record(make_context()));
  tracer.flush();
  EXPECT_EQ(tracer.dropped(), 1);
}

TEST(Otlp, errors_are_marked) {
  const auto trace =
      trace_of_request(make_record(make_context(), "docs", Code::timeout), std::chrono::system_clock::now());
  const Json span = Json::parse(otlp_json({trace}))["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
  EXPECT_EQ(span["status"], Json::parse(R"({"code":2,"message":"timeout"})"));
  EXPECT_FALSE(span.contains("parentSpanId"));
}

TEST(Otlp, refuses_what_is_no_address) {
  for (const char* endpoint : {"", "host:4318", "ftp://host", "http://", "http://host name", "http://a\nb"})
    EXPECT_THROW(make_otlp_sink(endpoint), Error) << endpoint;
}

TEST(TraceFile, is_json_that_viewers_draw_without_overlaps) {
  const fs::path path =
      fs::temp_directory_path() / ("mpishards_trace_" + std::to_string(::getpid()) + ".json");
  {
    Tracer tracer(make_trace_file_sink(path), 1);
    for (int i = 0; i < 20; ++i) tracer.request_finished(make_record(make_context()));
  }
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const Json events = Json::parse(text.str());
  fs::remove(path);

  std::map<int, std::vector<std::pair<double, double>>> requests;  // by track
  std::map<std::string, int> names;
  for (const Json& event : events) {
    if (event.at("ph") != "X") continue;
    ++names[event.at("name")];
    const double begin = event.at("ts");
    if (event.at("name") == "Search")
      requests[event.at("tid")].push_back({begin, begin + event.at("dur").get<double>()});
  }
  EXPECT_EQ(names["Search"], 20);
  EXPECT_EQ(names["search_node2"], 20);
  for (const auto& [track, spans] : requests)
    for (std::size_t i = 1; i < spans.size(); ++i)
      EXPECT_LE(spans[i - 1].second, spans[i].first + 0.5) << track;
}

TEST(TraceFile, a_folder_that_is_not_there_is_an_error) {
  EXPECT_THROW(make_trace_file_sink("/nowhere/at/all.json"), Error);
}

}  // namespace
}  // namespace mpishards::serve

#include "serve/trace_context.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>

namespace mpishards::serve {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kSpan = "00f067aa0ba902b7";

TEST(Traceparent, reads_ids_and_the_sampled_flag) {
  const auto sampled = parse_traceparent("00-" + kTrace + "-" + kSpan + "-01");
  ASSERT_TRUE(sampled);
  EXPECT_EQ(sampled->trace_id, kTrace);
  EXPECT_EQ(sampled->parent_span_id, kSpan);
  EXPECT_TRUE(sampled->is_sampled);
  EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + kSpan + "-00")->is_sampled);
  EXPECT_TRUE(parse_traceparent("00-" + kTrace + "-" + kSpan + "-ff")->is_sampled);
  EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + kSpan + "-fe")->is_sampled);
}

TEST(Traceparent, later_versions_may_add_fields) {
  EXPECT_TRUE(parse_traceparent("cc-" + kTrace + "-" + kSpan + "-01"));
  EXPECT_TRUE(parse_traceparent("cc-" + kTrace + "-" + kSpan + "-01-what-comes-later"));
  EXPECT_FALSE(parse_traceparent("cc-" + kTrace + "-" + kSpan + "-01.what-comes-later"));
}

TEST(Traceparent, refuses_what_the_standard_forbids) {
  const std::string good = "00-" + kTrace + "-" + kSpan + "-01";
  EXPECT_FALSE(parse_traceparent(""));
  EXPECT_FALSE(parse_traceparent(good + "-00")) << "version 00 ends here";
  EXPECT_FALSE(parse_traceparent(good + " "));
  EXPECT_FALSE(parse_traceparent("ff-" + kTrace + "-" + kSpan + "-01"));
  EXPECT_FALSE(parse_traceparent("00-" + std::string(32, '0') + "-" + kSpan + "-01"));
  EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + std::string(16, '0') + "-01"));
  EXPECT_FALSE(parse_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-" + kSpan + "-01")) << "upper case";
  for (std::size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(parse_traceparent(good.substr(0, i))) << i;
    std::string broken = good;
    broken[i] = 'x';
    EXPECT_FALSE(parse_traceparent(broken)) << i;
  }
}

TEST(TraceOf, belongs_to_the_client_where_it_named_one) {
  RequestContext context;
  context.traceparent = "00-" + kTrace + "-" + kSpan + "-01";
  EXPECT_EQ(trace_of(context).trace_id, kTrace);
  EXPECT_EQ(trace_of(context).parent_span_id, kSpan);
}

TEST(TraceOf, makes_ids_that_last_and_differ) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const RequestContext context;
    const TraceContext trace = trace_of(context);
    EXPECT_EQ(trace_of(context).trace_id, trace.trace_id);
    EXPECT_TRUE(trace.parent_span_id.empty());
    EXPECT_TRUE(parse_traceparent("00-" + trace.trace_id + "-" + span_id_of(context, 0) + "-01"));
    ids.insert(trace.trace_id);
  }
  EXPECT_EQ(ids.size(), 1000U);
}

TEST(TraceOf, spans_of_a_request_differ) {
  const RequestContext context;
  std::set<std::string> ids;
  for (int place = 0; place < 100; ++place) ids.insert(span_id_of(context, place));
  EXPECT_EQ(ids.size(), 100U);
  EXPECT_EQ(span_id_of(context, 7), span_id_of(context, 7));
}

TEST(Sample, keeps_its_share) {
  int kept = 0;
  for (int i = 0; i < 10000; ++i) {
    const RequestContext context;
    const std::string id = trace_of(context).trace_id;
    EXPECT_FALSE(is_in_sample(id, 0));
    EXPECT_TRUE(is_in_sample(id, 1));
    if (is_in_sample(id, 0.25)) ++kept;
  }
  EXPECT_NEAR(kept, 2500, 250);
}

}  // namespace
}  // namespace mpishards::serve

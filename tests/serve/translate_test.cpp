#include "serve/milvus/translate.hpp"

#include <gtest/gtest.h>

#include <string>

#include "serve/milvus/answers.hpp"
#include "serve/milvus/index_hints.hpp"

namespace mpishards::serve::milvus {
namespace {

template <class Do>
Code refusal_of(Do&& act) {
  try {
    act();
  } catch (const RequestError& error) {
    return error.code();
  }
  return Code::ok;
}

Code refusal_of_params(const Parameters& parameters) {
  SearchQuery query;
  return refusal_of([&] { apply_search_params(parameters, query); });
}

TEST(SearchParams, flat_values_win_over_those_of_params) {
  SearchQuery query;
  apply_search_params({{"limit", "3"}, {"params", R"({"limit": 5, "radius": 2.5, "deep": {"a": [1]}})"}},
                      query);
  EXPECT_EQ(query.limit, 3);
  EXPECT_EQ(query.radius, 2.5);
}

TEST(SearchParams, a_range_that_is_no_number_is_refused) {
  EXPECT_EQ(refusal_of_params({{"radius", "nan"}}), Code::invalid_parameter);
  EXPECT_EQ(refusal_of_params({{"range_filter", "-NaN"}}), Code::invalid_parameter);
  EXPECT_EQ(refusal_of_params({{"params", R"({"radius": "nan"})"}}), Code::invalid_parameter);
  EXPECT_EQ(refusal_of_params({{"radius", "inf"}}), Code::ok);
}

/// Deep values once ended the server: they were written down again by a recursion.
TEST(SearchParams, deep_or_long_json_is_refused) {
  constexpr std::size_t kDepth = 1'000'000;
  const std::string deep = R"({"a":)" + std::string(kDepth, '[') + std::string(kDepth, ']') + "}";
  EXPECT_EQ(refusal_of_params({{"params", deep}}), Code::invalid_parameter);
  std::string many = R"({"a":[0)";
  for (int i = 0; i < 1'000'000; ++i) many += ",0";
  EXPECT_EQ(refusal_of_params({{"params", many + "]}"}}), Code::invalid_parameter);
}

/// `id in {list}` with a list of texts once selected nothing.
TEST(Translate, a_list_of_other_than_integers_is_refused) {
  constexpr const char* kStringData = "\x22\x03\x0a\x01\x37";  // field 4 of the protocol's own list: ["7"]
  pb::QueryRequest request;
  schema::TemplateArrayValue& list = *(*request.mutable_expr_template_values())["list"].mutable_array_val();
  EXPECT_EQ(refusal_of([&] { row_query(request); }), Code::ok);
  ASSERT_TRUE(list.ParseFromString(kStringData));
  EXPECT_EQ(refusal_of([&] { row_query(request); }), Code::invalid_parameter);
  list.Clear();
  list.mutable_long_data()->add_data(7);
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(row_query(request).templates.at("list")).size(), 1U);
}

TEST(IndexHints, a_hint_of_many_bytes_is_not_kept) {
  CollectionInfo info;
  IndexHints hints;
  const Parameters params = {{"params", std::string(IndexHints::kMostHintBytes, ' ')}};
  EXPECT_EQ(refusal_of([&] { hints.create(info, "vector", "mine", params); }), Code::invalid_parameter);
  EXPECT_EQ(hints.find(info, "vector", "").front().name, "vector");
  hints.create(info, "vector", "mine", {{"index_type", "HNSW"}});
  EXPECT_EQ(hints.find(info, "vector", "").front().name, "mine");
}

TEST(CollectionAnswers, too_many_names_at_once_are_refused) {
  const std::vector<CollectionSpec> specs;
  const comm::Communicator nobody;
  Observer observer;
  Cluster cluster(specs, {}, nobody);
  Batcher batcher({}, observer);
  Loader loader(cluster, observer, [](const std::string&) {});
  Executor executor(1);
  SearchService service(batcher, cluster, loader, executor);
  const ServerConfig config;
  const TokenSet tokens;
  const ServerState state;
  const FrontContext front{config, service, cluster.catalogue(), batcher, observer, tokens, state};
  IndexHints hints;
  pb::BatchDescribeCollectionRequest request;
  for (int i = 0; i < kMostDescribed; ++i) request.add_collection_name("none");
  pb::BatchDescribeCollectionResponse response;
  answer(Asked{front, hints, ""}, request, response);
  EXPECT_EQ(response.responses_size(), kMostDescribed);
  EXPECT_EQ(response.responses(0).status().code(), static_cast<int>(Code::collection_not_found));
  request.add_collection_name("none");
  EXPECT_EQ(refusal_of([&] { answer(Asked{front, hints, ""}, request, response); }), Code::invalid_parameter);
}

}  // namespace
}  // namespace mpishards::serve::milvus

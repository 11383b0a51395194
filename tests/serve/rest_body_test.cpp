#include "serve/rest_body.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "serve/status.hpp"

namespace mpishards::serve {
namespace {

std::vector<float> values_of(const RestBody& body) {
  if (!body.has_vectors) return {};
  const auto* first = reinterpret_cast<const float*>(body.vectors.data());
  return {first, first + body.vectors.rows() * body.vectors.cols()};
}

TEST(RestBody, vectors_become_a_matrix_and_the_rest_keys) {
  const RestBody body = parse_rest_body(
      R"({"collectionName":"docs","data":[[1,2.5,-3],[4e1,0.1,7]],"limit":5,"searchParams":{"params":{"radius":2}}})");
  ASSERT_TRUE(body.has_vectors);
  EXPECT_EQ(body.vectors.rows(), 2);
  EXPECT_EQ(body.vectors.cols(), 3);
  EXPECT_EQ(values_of(body), (std::vector<float>{1, 2.5F, -3, 40, 0.1F, 7}));
  EXPECT_EQ(body.text("collectionName"), "docs");
  EXPECT_EQ(body.keys["limit"], 5);
  EXPECT_EQ(body.keys["searchParams"]["params"]["radius"], 2);
}

TEST(RestBody, only_the_outermost_data_is_a_matrix) {
  const RestBody body = parse_rest_body(R"({"other":{"data":[[1,2]]},"list":[{"data":[[3]]}],"data":[[9]]})");
  EXPECT_EQ(values_of(body), std::vector<float>{9});
  EXPECT_EQ(body.keys["other"]["data"][0][1], 2);
  EXPECT_EQ(body.keys["list"][0]["data"][0][0], 3);
}

TEST(RestBody, data_that_holds_no_vectors_stays_what_it_is) {
  EXPECT_FALSE(parse_rest_body(R"({"data":"text"})").has_vectors);
  EXPECT_FALSE(parse_rest_body(R"({"data":[]})").has_vectors);
  EXPECT_FALSE(parse_rest_body(R"({"data":[1,2]})").has_vectors);
  EXPECT_FALSE(parse_rest_body(R"({"data":["full text"]})").has_vectors);
  EXPECT_FALSE(parse_rest_body("{}").has_vectors);
}

TEST(RestBody, an_empty_body_is_an_empty_object) {
  EXPECT_TRUE(parse_rest_body("").keys.empty());
  EXPECT_TRUE(parse_rest_body(" \r\n\t").keys.empty());
}

TEST(RestBody, refuses_what_is_no_object) {
  for (const char* text : {"{", "[]", "1", "null", "\"x\"", "{\"a\":}", "{} x", "{\"a\":1,}", "{'a':1}",
                           "\xff", "{\"a\":\"\xff\"}", "{\"a\":NaN}", "{\"a\":1e999}"})
    EXPECT_THROW(parse_rest_body(text), RestSyntaxError) << text;
}

TEST(RestBody, refuses_vectors_that_are_none) {
  for (const char* text :
       {R"({"data":[[1,2],[3]]})", R"({"data":[[1],[2,3]]})", R"({"data":[[]]})", R"({"data":[["a"]]})",
        R"({"data":[[1,null]]})", R"({"data":[[[1]]]})", R"({"data":[[{"a":1}]]})", R"({"data":[[true]]})",
        R"({"data":[[1],5]})", R"({"data":[5,[1]]})", R"({"data":[[1],{}]})"})
    EXPECT_THROW(parse_rest_body(text), RequestError) << text;
  EXPECT_THROW(parse_rest_body(R"({"data":[[1]],"data":[[2]]})"), RestSyntaxError);
  EXPECT_THROW(parse_rest_body(R"({"data":[[1]],"data":7})"), RestSyntaxError);
}

TEST(RestBody, depth_and_number_of_values_are_limited) {
  const auto nested = [](int depth) {
    const auto n = static_cast<std::size_t>(depth - 1);
    return R"({"a":)" + std::string(n, '[') + std::string(n, ']') + "}";
  };
  EXPECT_NO_THROW(parse_rest_body(nested(kMostJsonDepth)));
  EXPECT_THROW(parse_rest_body(nested(kMostJsonDepth + 1)), RestSyntaxError);
  EXPECT_THROW(parse_rest_body(std::string(10'000'000, '[')), RestSyntaxError);
  std::string many = R"({"a":[0)";
  for (std::int64_t i = 0; i < kMostJsonValues; ++i) many += ",0";
  EXPECT_THROW(parse_rest_body(many + "]}"), RestSyntaxError);
  std::string vectors = R"({"data":[[0)";
  for (std::int64_t i = 0; i < kMostJsonValues; ++i) vectors += ",0";
  EXPECT_EQ(parse_rest_body(vectors + "]]}").vectors.cols(), kMostJsonValues + 1)
      << "vectors are not limited so";
}

TEST(RestBody, texts_are_checked) {
  const RestBody body =
      parse_rest_body(R"({"one":"a","two":["a","b"],"number":1,"mixed":["a",1],"none":null})");
  EXPECT_EQ(body.texts("one"), std::vector<std::string>{"a"});
  EXPECT_EQ(body.texts("two"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(body.texts("none").empty());
  EXPECT_TRUE(body.texts("missing").empty());
  EXPECT_EQ(body.text("none"), "");
  EXPECT_THROW(body.text("number"), RequestError);
  EXPECT_THROW(body.texts("number"), RequestError);
  EXPECT_THROW(body.texts("mixed"), RequestError);
}

TEST(RestBody, numbers_beyond_float32_become_infinite_and_are_left_to_the_search) {
  EXPECT_EQ(values_of(parse_rest_body(R"({"data":[[1e300]]})"))[0], std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace mpishards::serve

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "core/metric.hpp"
#include "core/narrow.hpp"
#include "core/types.hpp"
#include "core/version.hpp"

namespace mpishards {
namespace {

/// The message of the Error{kind} that `action` throws.
template <class Action>
std::string message_of(ErrorKind kind, Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(DType, name_and_size_of_every_type) {
  const struct {
    DType dtype;
    const char* name;
    std::size_t bytes;
    bool floating;
    bool eight_bit;
  } rows[] = {{DType::f32, "f32", 4, true, false},   {DType::f16, "f16", 2, true, false},
              {DType::bf16, "bf16", 2, true, false}, {DType::f64, "f64", 8, true, false},
              {DType::u8, "u8", 1, false, true},     {DType::i8, "i8", 1, false, true},
              {DType::i32, "i32", 4, false, false},  {DType::i64, "i64", 8, false, false}};
  for (const auto& row : rows) {
    EXPECT_EQ(to_string(row.dtype), row.name);
    EXPECT_EQ(dtype_from_string(row.name), row.dtype);
    EXPECT_EQ(size_bytes(row.dtype), row.bytes);
    EXPECT_EQ(is_floating(row.dtype), row.floating);
    EXPECT_EQ(is_8bit(row.dtype), row.eight_bit);
  }
}

TEST(DType, an_unknown_name_is_answered_with_the_known_ones) {
  const std::string message = message_of(ErrorKind::usage, [] { dtype_from_string("float32"); });
  for (const char* part : {"'float32'", "f32", "bf16", "i64"})
    EXPECT_NE(message.find(part), std::string::npos);
  EXPECT_THROW(dtype_from_string(""), Error);
  EXPECT_THROW(dtype_from_string("F32"), Error);
}

TEST(MetricWord, directions_and_padding_values) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(smaller_is_better(Metric::l2));
  EXPECT_FALSE(smaller_is_better(Metric::ip));
  EXPECT_FALSE(smaller_is_better(Metric::cosine));
  EXPECT_EQ(worst_distance(Metric::l2), kInfinity);
  EXPECT_EQ(worst_distance(Metric::ip), -kInfinity);
  EXPECT_EQ(worst_distance(Metric::cosine), -kInfinity);
}

TEST(MetricWord, names_go_both_ways) {
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine})
    EXPECT_EQ(metric_from_string(to_string(metric)), metric);
  EXPECT_EQ(metric_names(), "l2, ip, cosine");
}

TEST(MetricWord, an_unknown_name_is_answered_with_the_known_ones) {
  const std::string message = message_of(ErrorKind::usage, [] { metric_from_string("euclidean"); });
  EXPECT_NE(message.find("'euclidean'"), std::string::npos);
  EXPECT_NE(message.find("l2, ip, cosine"), std::string::npos);
}

TEST(Narrow, keeps_what_fits) {
  EXPECT_EQ(narrow<int>(std::int64_t{2147483647}), 2147483647);
  EXPECT_EQ(narrow<int>(std::int64_t{-2147483648LL}), std::numeric_limits<int>::min());
  EXPECT_EQ(narrow<std::size_t>(5), 5u);
  EXPECT_EQ(narrow<std::uint8_t>(255), 255);
}

TEST(Narrow, throws_the_value_that_does_not_fit) {
  EXPECT_NE(message_of(ErrorKind::internal, [] { narrow<int>(std::int64_t{1} << 31); }).find("2147483648"),
            std::string::npos);
  EXPECT_THROW(narrow<std::size_t>(-1), Error);
  EXPECT_THROW(narrow<int>(std::numeric_limits<std::uint64_t>::max()), Error);
  EXPECT_THROW(narrow<std::int8_t>(128), Error);
}

TEST(Version, says_three_numbers_and_a_build) {
  EXPECT_EQ(std::count(version().begin(), version().end(), '.'), 2);
  EXPECT_FALSE(revision().empty());
  EXPECT_FALSE(build_type().empty());
}

}  // namespace
}  // namespace mpishards

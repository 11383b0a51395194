#include "serve/milvus/placeholder.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "serve/status.hpp"

namespace mpishards::serve::milvus {
namespace {

constexpr std::uint64_t kFloatVector = 101;
constexpr std::uint64_t kInt8Vector = 105;
constexpr std::uint64_t kBinaryVector = 100;

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80U; value >>= 7) bytes += static_cast<char>((value & 0x7fU) | 0x80U);
  return bytes + static_cast<char>(value);
}

std::string field(std::uint64_t number, const std::string& value) {
  return varint(number << 3 | 2U) + varint(value.size()) + value;
}

std::string floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// A group as clients write it.
std::string group_of(std::uint64_t type, const std::vector<std::string>& values) {
  std::string placeholder = field(1, "$0") + varint(2U << 3) + varint(type);
  for (const std::string& value : values) placeholder += field(3, value);
  return field(1, placeholder);
}

Code refusal_of(const std::string& bytes, std::int64_t dim, std::int64_t nq) {
  try {
    parse_placeholder_group(bytes, dim, nq);
  } catch (const RequestError& error) {
    return error.code();
  }
  return Code::ok;
}

TEST(Placeholder, float_and_int8_vectors_become_rows) {
  Matrix rows = parse_placeholder_group(group_of(kFloatVector, {floats({1, 2}), floats({3, -4.5F})}), 2, 2);
  ASSERT_EQ(rows.rows(), 2);
  EXPECT_EQ(rows.as<float>().row(1)[0], 3);
  EXPECT_EQ(rows.as<float>().row(1)[1], -4.5F);
  rows = parse_placeholder_group(group_of(kInt8Vector, {std::string("\xff\x02", 2)}), 2, 1);
  EXPECT_EQ(rows.as<float>().row(0)[0], -1);
  EXPECT_EQ(rows.as<float>().row(0)[1], 2);
}

TEST(Placeholder, unknown_fields_are_skipped_and_a_missing_nq_is_counted) {
  const std::string extra = varint(9U << 3) + varint(77) + field(12, "later") + varint(13U << 3 | 5U) +
                            "1234" + varint(14U << 3 | 1U) + "12345678";
  const std::string bytes = extra + group_of(kFloatVector, {floats({1}), floats({2}), floats({3})});
  EXPECT_EQ(parse_placeholder_group(bytes, 1, 0).rows(), 3);
}

TEST(Placeholder, what_does_not_fit_is_refused) {
  const std::string good = group_of(kFloatVector, {floats({1, 2})});
  EXPECT_EQ(refusal_of(good, 2, 1), Code::ok);
  EXPECT_EQ(refusal_of(good, 2, 2), Code::invalid_parameter) << "another number of queries";
  EXPECT_EQ(refusal_of(good, 3, 1), Code::invalid_parameter) << "another dimension";
  EXPECT_EQ(refusal_of(group_of(kBinaryVector, {floats({1, 2})}), 2, 1), Code::invalid_parameter);
  EXPECT_EQ(refusal_of(group_of(kFloatVector, {}), 2, 0), Code::invalid_parameter);
  EXPECT_EQ(refusal_of(good + good, 2, 0), Code::invalid_parameter) << "two placeholders";
  EXPECT_EQ(refusal_of("", 2, 0), Code::invalid_parameter);
}

std::string reason_of(const std::string& bytes, std::int64_t dim) {
  try {
    parse_placeholder_group(bytes, dim, 1);
  } catch (const RequestError& error) {
    return error.what();
  }
  return "";
}

TEST(Placeholder, a_query_of_few_bytes_is_refused_for_its_type_or_told_the_size_of_its_own_type) {
  constexpr std::uint64_t kVarChar = 21;
  EXPECT_NE(reason_of(group_of(kVarChar, {"hello"}), 24).find("the queries are VarChar"), std::string::npos);
  const std::string reason = reason_of(group_of(kFloatVector, {floats({1, 2, 3, 4, 5})}), 24);
  EXPECT_NE(reason.find("expected vector size(byte) 96, actual 20"), std::string::npos) << reason;
}

TEST(Placeholder, every_truncation_and_any_flipped_byte_is_read_or_refused_but_never_more) {
  const std::string good = group_of(kFloatVector, {floats({1, 2}), floats({3, 4})});
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_EQ(refusal_of(good.substr(0, length), 2, 2), Code::invalid_parameter) << length;
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = good;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    damaged[random() % damaged.size()] = static_cast<char>(random());
    refusal_of(damaged, 2, 2);
  }
}

TEST(Placeholder, a_message_of_tiny_values_is_refused_at_the_first) {
  std::string placeholder = varint(2U << 3) + varint(kFloatVector);
  for (int i = 0; i < 100000; ++i) placeholder += field(3, "");
  EXPECT_EQ(refusal_of(field(1, placeholder), 2, 0), Code::invalid_parameter);
}

}  // namespace
}  // namespace mpishards::serve::milvus

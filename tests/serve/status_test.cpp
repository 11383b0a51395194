#include "serve/status.hpp"

#include <gtest/gtest.h>

#include <string>

#include "core/error.hpp"

namespace mpishards::serve {
namespace {

TEST(Shortened, leaves_short_texts_alone) {
  EXPECT_EQ(shortened("", 4), "");
  EXPECT_EQ(shortened("abcd", 4), "abcd");
  EXPECT_EQ(shortened("abcde", 4), "abcd...");
}

TEST(Shortened, ends_between_characters) {
  const std::string text = "ab\u00e9\u20ac";  // 2 + 2 + 3 bytes
  EXPECT_EQ(shortened(text, 7), text);
  EXPECT_EQ(shortened(text, 6), "ab\u00e9...");
  EXPECT_EQ(shortened(text, 4), "ab\u00e9...");
  EXPECT_EQ(shortened(text, 3), "ab...");
}

TEST(Shortened, is_not_led_astray_by_what_is_no_utf8) {
  EXPECT_EQ(shortened(std::string(9, '\x80'), 5), "...");
}

TEST(RequestError, repeats_a_client_only_so_far) {
  const RequestError error(Code::invalid_parameter, "unknown field '" + std::string(1 << 20, 'x') + "'");
  EXPECT_EQ(error.status().reason.size(), 1003U);
  EXPECT_TRUE(error.status().reason.starts_with("unknown field 'xxx"));
}

TEST(StatusOfCurrentException, cuts_what_the_engine_says_of_a_request) {
  try {
    throw Error(ErrorKind::usage, std::string(5000, 'y'));
  } catch (...) {
    const Status status = status_of_current_exception();
    EXPECT_EQ(status.code, Code::invalid_parameter);
    EXPECT_EQ(status.reason.size(), 1003U);
  }
}

}  // namespace
}  // namespace mpishards::serve

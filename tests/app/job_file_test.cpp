#include "app/job_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/error.hpp"
#include "support/expect_error.hpp"

namespace mpishards::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_job_text(text, "job.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

TEST(JobFile, keys_are_long_option_names_with_their_own_types) {
  const Settings settings = parse_job_text(
      "base = [\"a.fbin\", \"b.fbin\"]\nqueries = \"q.fbin\"\nk = 100\nbatch = \"10k\"\nmemory = \"8GiB\"\n"
      "overwrite = true\nqueries-range = \"0:10\"\n",
      "job.toml");
  EXPECT_THAT(settings.at("base").values, ElementsAre("a.fbin", "b.fbin"));
  EXPECT_THAT(settings.at("queries").values, ElementsAre("q.fbin"));
  EXPECT_EQ(settings.at("k").text(), "100");
  EXPECT_EQ(settings.at("batch").text(), "10k");
  EXPECT_EQ(settings.at("memory").text(), "8GiB");
  EXPECT_EQ(settings.at("overwrite").text(), "true");
  EXPECT_EQ(settings.at("k").where, "job.toml:3");
}

TEST(JobFile, unknown_key_names_file_line_and_nearest_key) {
  EXPECT_THAT(refusal("k = 3\nmetrics = \"l2\"\n"),
              HasSubstr("job.toml:2: unknown key 'metrics'; did you mean metric?"));
  EXPECT_THAT(refusal("zzzzzzzzzz = 3\n"), HasSubstr("unknown key 'zzzzzzzzzz'"));
  EXPECT_THAT(refusal("[search]\nk = 3\n"), HasSubstr("job.toml:1: unknown key 'search'"));
  EXPECT_THAT(refusal("job = \"other.toml\"\n"), HasSubstr("unknown key 'job'"));
}

TEST(JobFile, wrong_types_name_what_is_expected) {
  EXPECT_THAT(refusal("k = 1.5\n"),
              HasSubstr("job.toml:1: k is of type floating-point; expected a whole number"));
  EXPECT_THAT(refusal("k = true\n"), HasSubstr("expected a whole number"));
  EXPECT_THAT(refusal("overwrite = \"yes\"\n"), HasSubstr("expected true or false"));
  EXPECT_THAT(refusal("metric = 2\n"), HasSubstr("expected a string"));
  EXPECT_THAT(refusal("metric = [\"l2\"]\n"), HasSubstr("expected a string"));
  EXPECT_THAT(refusal("base = [1, 2]\n"), HasSubstr("expected a string or an array of strings"));
  EXPECT_THAT(refusal("base = []\n"), HasSubstr("empty array"));
}

TEST(JobFile, syntax_error_names_the_line) {
  EXPECT_THAT(refusal("k = 3\nmetric = \n"), HasSubstr("job.toml:2"));
}

TEST(JobFile, missing_file_is_missing_input) {
  test::expect_error(ErrorKind::input_missing, [] { read_job_file("/nonexistent/job.toml"); });
}

TEST(JobFile, the_ones_that_are_shipped_are_valid) {
  const Settings job = read_job_file(MPISHARDS_SOURCE_DIR "/jobs/fashion_mnist.toml");
  const BatchOptions options =
      to_batch_options(BatchKind::search, combine(BatchKind::search, {}, {}, job), "");
  EXPECT_EQ(options.job.k, 100);
  EXPECT_EQ(options.job.metric, Metric::l2);
}

}  // namespace
}  // namespace mpishards::app

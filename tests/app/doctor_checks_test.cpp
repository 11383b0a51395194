#include "app/doctor_checks.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mpishards::app {
namespace {

const Check kGood{"BLAS", Level::ok, "0.3.21", "", true};
const Check kOther{"BLAS", Level::ok, "0.3.10", "", true};
const Check kBroken{"BLAS", Level::fail, "none", "install one", true};
const Check kMemory{"memory", Level::ok, "8 GiB", "", false};
const Check kLessMemory{"memory", Level::ok, "7 GiB", "", false};

TEST(FormatRanks, joins_runs) {
  EXPECT_EQ(format_ranks({}), "");
  EXPECT_EQ(format_ranks({4}), "4");
  EXPECT_EQ(format_ranks({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
}

TEST(CompareChecks, equal_answers_become_one) {
  const auto checks = compare_checks({{kGood, kMemory}, {kGood, kMemory}, {kGood, kMemory}});
  ASSERT_EQ(checks.size(), 2u);
  ASSERT_EQ(checks[0].answers.size(), 1u);
  EXPECT_EQ(checks[0].answers[0].ranks, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(worst_level(checks), Level::ok);
}

TEST(CompareChecks, ranks_that_differ_where_they_should_not_are_a_warning_and_named) {
  const auto checks = compare_checks({{kGood}, {kOther}, {kGood}});
  EXPECT_EQ(checks[0].level, Level::warn);
  const std::string text = doctor_text(checks, 3);
  EXPECT_NE(text.find("rank 0, 2: 0.3.21"), std::string::npos) << text;
  EXPECT_NE(text.find("rank 1: 0.3.10"), std::string::npos) << text;
}

TEST(CompareChecks, numbers_that_may_differ_are_no_warning) {
  const auto checks = compare_checks({{kMemory}, {kLessMemory}});
  EXPECT_EQ(checks[0].level, Level::ok);
  EXPECT_EQ(checks[0].answers.size(), 2u);
}

TEST(CompareChecks, one_ranks_failure_is_the_jobs) {
  const auto checks = compare_checks({{kGood}, {kBroken}});
  EXPECT_EQ(worst_level(checks), Level::fail);
  EXPECT_NE(doctor_text(checks, 2).find("-> install one"), std::string::npos);
  EXPECT_EQ(doctor_json(checks, 2)["checks"][0]["level"], "FAIL");
  EXPECT_EQ(doctor_json(checks, 2)["level"], "FAIL");
}

TEST(SerializedChecks, come_back_whole) {
  const auto back = deserialize_checks(serialize({kBroken, kMemory}));
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].name, "BLAS");
  EXPECT_EQ(back[0].level, Level::fail);
  EXPECT_EQ(back[0].remedy, "install one");
  EXPECT_TRUE(back[0].same_everywhere);
  EXPECT_FALSE(back[1].same_everywhere);
}

}  // namespace
}  // namespace mpishards::app

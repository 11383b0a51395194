#include "app/cli.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "app/command.hpp"
#include "app/commands/commands.hpp"
#include "core/error.hpp"

namespace mpishards::app {
namespace {

using testing::HasSubstr;

TEST(Nearest, finds_slips_and_not_strangers) {
  EXPECT_EQ(nearest("metrik", {"merge", "metric"}), "metric");
  EXPECT_EQ(nearest("qeries", {"queries", "quiet"}), "queries");
  EXPECT_EQ(nearest("zzzzzzzz", {"queries", "quiet"}), "");
}

TEST(Commands, help_of_each_has_an_example) {
  for (const CommandRow& row : command_registry()) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(row.run({"--help"}, comm::Communicator()), 0) << row.name;
    const std::string help = testing::internal::GetCapturedStdout();
    EXPECT_THAT(help, HasSubstr("Example:\n  ")) << row.name;
    EXPECT_THAT(help.substr(help.find("Example:")), HasSubstr("mpishards " + std::string(row.name)))
        << row.name;
  }
}

TEST(Commands, unknown_flags_are_usage_errors) {
  for (const CommandRow& row : command_registry()) {
    try {
      row.run({"--no-such-flag-anywhere"}, comm::Communicator());
      ADD_FAILURE() << row.name << " accepted it";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << row.name;
      EXPECT_THAT(error.what(), HasSubstr("--no-such-flag-anywhere"));
    }
  }
}

std::string plan_output(const Arguments& arguments) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_plan(arguments, comm::Communicator()), 0);
  return testing::internal::GetCapturedStdout();
}

const Arguments kMilvusExample = {"--rows", "30M", "--dim", "1024", "--queries", "10k", "--device", "h200"};

TEST(Plan, holds_the_base_on_the_fewest_ranks) {
  const std::string text = plan_output(kMilvusExample);
  EXPECT_THAT(text, HasSubstr("base 30000000 x 1024 f32 (114.4 GiB)"));
  EXPECT_THAT(text, HasSubstr("ranks: 1 (the fewest"));
  EXPECT_THAT(text, HasSubstr("not a measurement"));
  EXPECT_THAT(text, HasSubstr("no CUDA engine yet"));
  Arguments smaller = kMilvusExample;
  smaller.insert(smaller.end(), {"--memory", "40GiB"});
  EXPECT_THAT(plan_output(smaller), HasSubstr("ranks: 3 (the fewest"));
}

TEST(Plan, time_is_flops_over_the_given_roof) {
  const std::string text =
      plan_output({"--rows", "1M", "--dim", "500", "--queries", "1k", "--flops", "100GFLOP/s", "--ranks", "2",
                   "--memory", "8GiB", "--read-rate", "1GB/s"});
  EXPECT_THAT(text, HasSubstr("search: 1 TFLOP in all"));
  EXPECT_THAT(text, HasSubstr("(--flops): 5.00 s"));  // 1e12 / 2 / 100e9
  EXPECT_THAT(text, HasSubstr("read: 1.00 s"));       // 2 GB / 2 / 1 GB/s
}

TEST(Plan, job_script_is_sized_and_requeues) {
  Arguments arguments = kMilvusExample;
  arguments.insert(arguments.end(), {"--sbatch", "--ranks", "4", "--threads", "8"});
  const std::string script = plan_output(arguments);
  for (const char* line : {"#!/usr/bin/env bash\n", "#SBATCH --nodes=4\n", "#SBATCH --cpus-per-task=8\n",
                           "#SBATCH --signal=B:USR1@120\n", "#SBATCH --requeue\n", "scontrol requeue"})
    EXPECT_THAT(script, HasSubstr(line));
}

TEST(Plan, wrong_sizes_are_usage_errors) {
  for (const Arguments& arguments :
       {Arguments{"--dim", "2"}, Arguments{"--rows", "0", "--dim", "2", "--queries", "1"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--device", "abacus"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--flops", "fast"}}) {
    try {
      run_plan(arguments, comm::Communicator());
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
    }
  }
}

}  // namespace
}  // namespace mpishards::app

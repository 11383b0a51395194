#include "app/cli.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "app/command.hpp"
#include "app/commands/commands.hpp"
#include "core/error.hpp"
#include "kernels/index.hpp"

namespace mpishards::app {
namespace {

using testing::HasSubstr;

TEST(Nearest, finds_slips_and_not_strangers) {
  EXPECT_EQ(nearest("metrik", {"merge", "metric"}), "metric");
  EXPECT_EQ(nearest("qeries", {"queries", "quiet"}), "queries");
  EXPECT_EQ(nearest("zzzzzzzz", {"queries", "quiet"}), "");
}

TEST(Nearest, finds_what_begins_alike) {
  EXPECT_EQ(nearest("query", {"merge", "queries", "queries-range"}), "queries");
  EXPECT_EQ(nearest("check", {"checkpoint", "self-check"}), "checkpoint");
  EXPECT_EQ(nearest("quartz", {"queries", "quiet"}), "");
}

std::string usage_message(const std::string& command, const Arguments& arguments) {
  for (const CommandRow& row : command_registry()) {
    if (row.name != command) continue;
    try {
      row.run(arguments, comm::Communicator());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return error.what();
    }
  }
  ADD_FAILURE() << command << " accepted it";
  return "";
}

TEST(Commands, a_short_flag_that_is_unknown_is_named) {
  EXPECT_THAT(usage_message("search", {"-K", "5"}), HasSubstr("unknown option -K; did you mean -k?"));
  EXPECT_THAT(usage_message("search", {"--batch", "-3", "-Z"}), HasSubstr("unknown option -Z"));
}

TEST(Commands, an_expanded_glob_is_explained) {
  const std::string message = usage_message("search", {"--base", "a.h5", "b.h5", "--queries", "q.h5"});
  EXPECT_THAT(message, HasSubstr("'b.h5'"));
  EXPECT_THAT(message, HasSubstr("quote the glob or repeat --base"));
  EXPECT_THAT(usage_message("search", {"--k=5", "b.h5"}), testing::Not(HasSubstr("glob")));
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
  EXPECT_THAT(text, HasSubstr("CUDA engine has not yet run on a device"));
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

TEST(Plan, long_times_are_in_units_of_people) {
  const auto search_time = [](const std::string& rate) {
    const std::string text = plan_output({"--rows", "1M", "--dim", "500", "--queries", "1k", "--ranks", "1",
                                          "--memory", "8GiB", "--flops", rate});
    const std::string line = text.substr(text.find("(--flops): ") + 11);
    return line.substr(0, line.find('\n'));
  };
  EXPECT_EQ(search_time("10GFLOP/s"), "100 s");  // the work is 1e12
  EXPECT_EQ(search_time("5GFLOP/s"), "3 min 20 s");
  EXPECT_EQ(search_time("200MFLOP/s"), "1 h 23 min");
  EXPECT_EQ(search_time("5MFLOP/s"), "2 d 8 h");
}

const Arguments kScript = {"--rows",    "30M", "--dim",   "1024",     "--queries", "10k",
                           "--device",  "cpu", "--flops", "1TFLOP/s", "--ranks",   "4",
                           "--threads", "8",   "--isa",   "portable", "--sbatch",  "--memory"};

TEST(Plan, job_script_asks_for_no_more_than_the_given_memory) {
  Arguments roomy = kScript;
  roomy.emplace_back("64GiB");  // planned: 28.8 GiB; with a quarter and 1 GiB of room less than 64 GiB
  const std::string with_room = plan_output(roomy);
  const std::int64_t megabytes = std::stoll(with_room.substr(with_room.find("--mem=") + 6));
  EXPECT_GT(megabytes, 29 * 1024);
  EXPECT_LT(megabytes, 40 * 1024);
  Arguments tight = kScript;
  tight.emplace_back("31GiB");
  const std::string capped = plan_output(tight);
  EXPECT_THAT(capped, HasSubstr("#SBATCH --mem=31744M\n"));
  EXPECT_THAT(capped, HasSubstr(" --memory 30720MiB "));
}

TEST(Plan, job_script_asks_for_devices_and_is_refused_without_their_engine) {
  Arguments arguments = kMilvusExample;
  arguments.emplace_back("--sbatch");
  if (std::ranges::any_of(kernels::index_registry(), [](const auto& row) { return row.engine == "cuda"; })) {
    const std::string script = plan_output(arguments);
    EXPECT_THAT(script, HasSubstr("#SBATCH --gpus-per-task=1\n"));
    EXPECT_THAT(script, HasSubstr(" --engine cuda "));
    return;
  }
  try {
    run_plan(arguments, comm::Communicator());
    ADD_FAILURE() << "printed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unavailable);
    EXPECT_THAT(error.what(), HasSubstr("--device cpu"));
  }
}

TEST(Plan, job_script_is_sized_and_requeues) {
  Arguments arguments = kScript;
  arguments.emplace_back("64GiB");
  const std::string script = plan_output(arguments);
  for (const char* line :
       {"#!/usr/bin/env bash\n", "#SBATCH --nodes=4\n", "#SBATCH --cpus-per-task=8\n",
        "#SBATCH --signal=B:USR1@120\n", "#SBATCH --requeue\n", "scontrol requeue", "MPISHARDS_MAX_REQUEUES"})
    EXPECT_THAT(script, HasSubstr(line));
}

TEST(Plan, wrong_sizes_are_usage_errors) {
  for (const Arguments& arguments :
       {Arguments{"--dim", "2"}, Arguments{"--rows", "0", "--dim", "2", "--queries", "1"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--device", "abacus"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--device", "h200", "--memory", "500GiB"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--device", "h200", "--dtype", "i32"},
        Arguments{"--rows", "1M", "--dim", "2", "--queries", "1", "--device", "cpu", "--flops", "1T",
                  "--json", "--sbatch"},
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

#include "app/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "app/job_file.hpp"
#include "core/error.hpp"

namespace mpishards::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Settings from_flags(const Arguments& arguments, BatchKind kind = BatchKind::search) {
  Cli cli(std::string(to_string(kind)), "", "", "example");
  declare_options(cli, options_of(kind));
  return flag_settings(*cli.parse(arguments, comm::Communicator()), options_of(kind));
}

Settings from_environment(const std::map<std::string, std::string>& variables) {
  return environment_settings([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

template <class Step>
Error failure_of(Step step) {
  try {
    step();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::internal, "");
}

const Arguments kNeeded = {"--base", "b.fbin", "--queries", "q.fbin", "-o", "out.h5"};

Arguments with_needed(Arguments more) {
  more.insert(more.end(), kNeeded.begin(), kNeeded.end());
  return more;
}

BatchOptions options_of(const Arguments& arguments) {
  return to_batch_options(BatchKind::search,
                          combine(BatchKind::search, from_flags(with_needed(arguments)), {}, {}), "command");
}

BatchOptions join_options_of(Arguments arguments) {
  arguments.insert(arguments.end(), {"--base", "b.fbin", "-o", "out.h5"});
  const Settings settings = combine(BatchKind::join, from_flags(arguments, BatchKind::join), {}, {});
  return to_batch_options(BatchKind::join, settings, "command");
}

TEST(Options, defaults_are_those_of_the_table) {
  const BatchOptions options = options_of({});
  EXPECT_EQ(options.job.k, 10);
  EXPECT_EQ(options.job.metric, Metric::l2);
  EXPECT_EQ(options.job.merge, "auto");
  EXPECT_EQ(options.job.format, io::ResultFormat::h5);
  EXPECT_EQ(options.job.self_check_queries, 16);
  EXPECT_TRUE(options.job.resume);
  EXPECT_FALSE(options.job.overwrite);
  EXPECT_TRUE(options.report);
}

TEST(Options, every_flag_reaches_its_place) {
  const BatchOptions options = options_of({"-k",
                                           "1k",
                                           "--metric",
                                           "cosine",
                                           "--engine",
                                           "cpu",
                                           "--merge",
                                           "gather",
                                           "--batch",
                                           "256",
                                           "--memory",
                                           "2GiB",
                                           "--threads",
                                           "3",
                                           "--format",
                                           "npy",
                                           "--queries-range",
                                           "5:20",
                                           "--part",
                                           "2/7",
                                           "--nonfinite",
                                           "drop",
                                           "--self-check",
                                           "0",
                                           "--overwrite",
                                           "--no-resume",
                                           "--dry-run",
                                           "--json",
                                           "-qv",
                                           "--report=false"});
  const rank::SearchJobConfig& job = options.job;
  EXPECT_EQ(job.k, 1000);
  EXPECT_EQ(job.metric, Metric::cosine);
  EXPECT_EQ(job.engine, "cpu");
  EXPECT_EQ(job.merge, "gather");
  EXPECT_EQ(job.batch, 256);
  EXPECT_EQ(job.memory_bytes, std::int64_t{2} << 30);
  EXPECT_EQ(job.threads, 3);
  EXPECT_EQ(job.format, io::ResultFormat::npy);
  EXPECT_EQ(job.queries_range, (io::Range{5, 20}));
  EXPECT_EQ(job.part, 2);
  EXPECT_EQ(job.parts, 7);
  EXPECT_TRUE(job.drop_nonfinite);
  EXPECT_EQ(job.self_check_queries, 0);
  EXPECT_TRUE(job.overwrite);
  EXPECT_FALSE(job.resume);
  EXPECT_TRUE(options.dry_run && options.json && options.quiet && options.verbose);
  EXPECT_FALSE(options.report);
}

TEST(Options, one_letter_names_take_one_or_two_dashes) {
  EXPECT_EQ(from_flags({"--k", "7"}).at("k").text(), "7");
  EXPECT_EQ(from_flags({"--k=7"}).at("k").text(), "7");
  EXPECT_EQ(from_flags({"-k7"}).at("k").text(), "7");
}

TEST(Options, a_comma_is_part_of_a_file_name) {
  EXPECT_THAT(from_flags({"--base", "a,b.fbin", "--base", "c.fbin"}).at("base").values,
              ElementsAre("a,b.fbin", "c.fbin"));
}

TEST(Options, format_follows_the_suffix_unless_it_is_named) {
  const Settings flags = from_flags({"--base", "b.fbin", "--queries", "q.fbin", "-o", "out.ibin"});
  EXPECT_EQ(to_batch_options(BatchKind::search, combine(BatchKind::search, flags, {}, {}), "").job.format,
            io::ResultFormat::ibin);
}

TEST(Options, flag_wins_over_environment_over_job_file_over_default) {
  const Settings job = parse_job_text("k = 2\nbatch = 20\nmetric = \"ip\"\n", "job.toml");
  const Settings environment = from_environment({{"MPISHARDS_K", "3"}, {"MPISHARDS_BATCH", "30"}});
  const Settings settings = combine(BatchKind::search, from_flags({"-k", "4"}), environment, job);
  EXPECT_EQ(settings.at("k").text(), "4");
  EXPECT_EQ(settings.at("k").origin, Origin::flag);
  EXPECT_EQ(settings.at("batch").text(), "30");
  EXPECT_EQ(settings.at("batch").where, "MPISHARDS_BATCH");
  EXPECT_EQ(settings.at("metric").text(), "ip");
  EXPECT_EQ(settings.at("metric").where, "job.toml:3");
  EXPECT_EQ(settings.at("self-check").origin, Origin::built_in);
}

TEST(Options, bad_flags_are_usage_errors_that_name_the_flag) {
  const struct {
    Arguments arguments;
    const char* says;
  } kCases[] = {
      {{"-k", "0"}, "-k: k = 0 is below the smallest value, 1"},
      {{"-k", "ten"}, "'ten' is no count"},
      {{"-k", "1.5"}, "'1.5' is no count"},
      {{"-k", "-3"}, "-k: k = -3"},
      {{"-k", "99999999999999999999"}, "no count"},
      {{"--memory", "8 parsecs"}, "'8 parsecs' is no size"},
      {{"--metric", "coosine"}, "known: l2, ip, cosine; did you mean cosine?"},
      {{"--merge", "all_to_al"}, "did you mean all_to_all?"},
      {{"--queries-range", "5"}, "expected A:B"},
      {{"--queries-range", "5:5"}, "is empty"},
      {{"--part", "4/4"}, "part 4/4 is outside"},
      {{"--part", "1"}, "is no part"},
  };
  for (const auto& test : kCases) {
    const Error error = failure_of([&] { combine(BatchKind::search, from_flags(test.arguments), {}, {}); });
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(test.says));
    EXPECT_THAT(error.what(), HasSubstr(test.arguments.front().substr(0, test.arguments.front().find('='))));
  }
}

TEST(Options, a_limit_that_says_nothing_is_a_usage_error) {
  const struct {
    Arguments arguments;
    const char* says;
  } kCases[] = {
      {{}, "--eps is missing"},
      {{"--eps", "nan"}, "nan"},
      {{"--eps", "much"}, "much"},
      {{"--eps", "-1"}, "-1: a squared distance is never negative"},
      {{"--eps", "1e300"}, "1e300 is beyond float32"},
      {{"--eps", "1", "-k", "5"}, "k"},
      {{"--eps", "1", "--queries", "q.h5"}, "queries"},
      {{"--eps", "1", "--metric", "l3"}, "l3"},
  };
  for (const auto& test : kCases) {
    const Error error = failure_of([&] { join_options_of(test.arguments); });
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(test.says));
  }
}

TEST(Options, a_similarity_may_be_negative) {
  EXPECT_EQ(join_options_of({"--eps", "-0.5", "--metric", "cosine"}).job.range->eps, -0.5F);
}

TEST(Options, unknown_flag_names_the_nearest) {
  const Error error = failure_of([] { from_flags({"--metrik", "l2"}); });
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_THAT(error.what(), HasSubstr("did you mean --metric?"));
}

TEST(Options, bad_environment_is_a_config_error_even_where_a_flag_wins) {
  const Error error = failure_of([] {
    combine(BatchKind::search, from_flags({"-k", "4"}), from_environment({{"MPISHARDS_K", "many"}}), {});
  });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  EXPECT_THAT(error.what(), HasSubstr("MPISHARDS_K"));
}

TEST(Options, flags_are_true_or_false) {
  EXPECT_EQ(failure_of([] { from_flags({"--overwrite=maybe"}); }).kind(), ErrorKind::usage);
  const Error error = failure_of([] {
    combine(BatchKind::search, {}, from_environment({{"MPISHARDS_OVERWRITE", "maybe"}}), {});
  });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  EXPECT_THAT(error.what(), HasSubstr("'maybe' is neither true nor false"));
}

TEST(Options, missing_inputs_and_output_are_named) {
  for (const std::string name : {"base", "queries", "output"}) {
    Settings settings = combine(BatchKind::search, from_flags(kNeeded), {}, {});
    settings.erase(name);
    const Error error = failure_of([&] { to_batch_options(BatchKind::search, settings, ""); });
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(error.what(), HasSubstr("--" + name + " is missing"));
  }
}

TEST(Options, printed_configuration_is_a_job_file_with_the_same_meaning) {
  const Settings settings = combine(BatchKind::search,
                                    from_flags(with_needed({"-k", "1k", "--memory", "8GiB", "--part", "1/3",
                                                            "--overwrite", "--base", "with \"quote\".fbin"})),
                                    {}, {});
  const Settings again = parse_job_text(to_toml(settings, true), "printed.toml");
  ASSERT_EQ(again.size(), settings.size());
  for (const auto& [name, setting] : settings) EXPECT_EQ(again.at(name).values, setting.values) << name;
}

TEST(Options, origin_is_printed_beside_every_value) {
  const std::string text = to_toml(combine(BatchKind::search, from_flags({"-k", "5"}), {}, {}), true);
  EXPECT_THAT(text, testing::ContainsRegex("k = 5 +# flag -k\n"));
  EXPECT_THAT(text, testing::ContainsRegex("metric = \"l2\" +# default\n"));
}

TEST(Options, settings_survive_broadcasting) {
  const Settings settings = combine(BatchKind::search, from_flags(with_needed({"-k", "5"})), {}, {});
  const Settings again = deserialize_settings(serialize(settings));
  ASSERT_EQ(again.size(), settings.size());
  for (const auto& [name, setting] : settings) {
    EXPECT_EQ(again.at(name).values, setting.values);
    EXPECT_EQ(again.at(name).origin, setting.origin);
    EXPECT_EQ(again.at(name).where, setting.where);
  }
}

TEST(Options, counts_have_decimal_suffixes) {
  EXPECT_EQ(parse_count("10k"), 10'000);
  EXPECT_EQ(parse_count("1.5M"), 1'500'000);
  EXPECT_EQ(parse_count("3G"), 3'000'000'000);
  for (const char* text : {"", "k", "10x", "10kk", " 5", "nan", "inf", "1e300", "0.5"})
    EXPECT_THROW(parse_count(text), Error) << text;
}

TEST(Options, environment_names_are_upper_case_with_underscores) {
  EXPECT_EQ(environment_name("queries-range"), "MPISHARDS_QUERIES_RANGE");
}

}  // namespace
}  // namespace mpishards::app

#include "rank/build_plan.hpp"

#include <gtest/gtest.h>

#include "support/expect_error.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

SearchJobConfig config_of(const std::string& index) {
  SearchJobConfig config;
  config.index = index;
  config.build.emplace();
  return config;
}

JobShape shape_of(std::int64_t rows, std::int64_t d, std::int64_t memory_bytes) {
  JobShape shape;
  shape.rows = rows;
  shape.d = d;
  shape.n_ranks = 2;
  shape.threads = 2;
  shape.memory_bytes = memory_bytes;
  return shape;
}

TEST(BuildPlan, keeps_to_the_memory_and_to_blocks_that_a_stop_can_wait_for) {
  const JobShape shape = shape_of(100'000'000, 256, 64 * kGiB);
  const BuildPlan plan = plan_build(config_of("ivf16384"), shape);
  EXPECT_EQ(plan.training_rows, 256 * 16384);
  EXPECT_LE(plan.memory_bytes, shape.memory_bytes);
  EXPECT_LE(plan.place_block * 1024, 4 * kGiB);
  EXPECT_GT(plan.place_block, 1'000'000);
  EXPECT_EQ(plan.files.n_shards, 25);
  EXPECT_DOUBLE_EQ(plan.assignment_flops, 2.0 * 16384 * 256 * 1e8);
}

TEST(BuildPlan, a_flat_index_is_neither_trained_nor_assigned) {
  const BuildPlan plan = plan_build(config_of("flat"), shape_of(1000, 8, kGiB));
  EXPECT_EQ(plan.training_rows, 0);
  EXPECT_EQ(plan.training_flops + plan.assignment_flops, 0);
  EXPECT_EQ(plan.index_bytes, 1000 * (8 * 4 + 8) + (8 * 4 + 8));
}

TEST(BuildPlan, says_what_does_not_fit) {
  const auto planned = [](const std::string& index, std::int64_t rows, std::int64_t memory_bytes) {
    plan_build(config_of(index), shape_of(rows, 256, memory_bytes));
  };
  test::expect_error(
      ErrorKind::config, [&] { planned("ivf1001", 1000, kGiB); }, "1001 lists");
  test::expect_error(
      ErrorKind::config, [&] { planned("ivf16384", 10'000'000, kGiB); }, "--training-rows");
  test::expect_error(
      ErrorKind::config, [&] { planned("ivf64", 100'000, 1 << 20); }, "--memory");
}

}  // namespace
}  // namespace mpishards::rank

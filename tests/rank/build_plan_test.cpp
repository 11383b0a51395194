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

TEST(BuildPlan, faiss_builds_as_many_shards_at_once_as_there_is_memory_for) {
  const SearchJobConfig config = config_of("faiss:HNSW32");
  const BuildPlan roomy = plan_build(config, shape_of(1'000'000, 96, 64 * kGiB));
  EXPECT_EQ(roomy.files.n_shards, 4);
  EXPECT_EQ(roomy.training_rows, 0);
  EXPECT_EQ(roomy.builders, 2);
  // A row, as it is stored, as a float32 and in the index, which has 64 links and more for it.
  EXPECT_GE(roomy.faiss_bytes, 250'000 * (3 * 96 * 4 + 64 * 4));
  const BuildPlan narrow = plan_build(config, shape_of(1'000'000, 96, roomy.faiss_bytes + 1));
  EXPECT_EQ(narrow.builders, 1);
  EXPECT_LE(narrow.memory_bytes, roomy.faiss_bytes + 1);
  test::expect_error(
      ErrorKind::config, [&] { plan_build(config, shape_of(1'000'000, 96, roomy.faiss_bytes - 1)); },
      "--shards");
  EXPECT_EQ(plan_build(config, shape_of(100'000'000, 96, 64 * kGiB)).files.n_shards, 16);
}

TEST(BuildPlan, what_faiss_trains_on_comes_from_its_lists) {
  EXPECT_EQ(plan_build(config_of("faiss:IVF1024,PQ8"), shape_of(1'000'000, 96, 64 * kGiB)).training_rows,
            262144);
  const BuildPlan few = plan_build(config_of("faiss:OPQ8,IVF1024,PQ8"), shape_of(20'000, 96, 64 * kGiB));
  EXPECT_EQ(few.training_rows, 20'000);
  EXPECT_EQ(build_warnings(few).size(), 1U);
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

#include "rank/job_plan.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "support/expect_error.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

JobShape shape_of(std::int64_t rows, std::int64_t d, std::int64_t nq, int n_ranks, std::int64_t memory) {
  JobShape shape;
  shape.rows = rows;
  shape.d = d;
  shape.nq = nq;
  shape.k = 10;
  shape.n_ranks = n_ranks;
  shape.threads = 2;
  shape.memory_bytes = memory;
  return shape;
}

TEST(JobPlan, keeps_a_base_resident_that_fits) {
  const JobPlan plan = plan_job(shape_of(1'000'000, 128, 10'000, 2, 4 * kGiB));
  EXPECT_EQ(plan.groups, 1);
  EXPECT_EQ(plan.passes, 1);
  EXPECT_EQ(plan.rows_per_rank, 500'000);
  EXPECT_LE(plan.memory_bytes, 4 * kGiB);
}

TEST(JobPlan, streams_a_base_that_does_not_fit_and_stays_below_the_limit) {
  for (const std::int64_t memory : {kGiB / 4, kGiB, 8 * kGiB}) {
    const JobShape shape = shape_of(30'000'000, 1024, 10'000, 4, memory);
    const JobPlan plan = plan_job(shape);
    EXPECT_GT(plan.groups, 1);
    EXPECT_LE(plan.memory_bytes, memory);
    EXPECT_GE(plan.groups * plan.rows_per_group, shape.rows);
    EXPECT_LT((plan.groups - 1) * plan.rows_per_group, shape.rows);
    EXPECT_GE(plan.rows_per_rank * shape.n_ranks, plan.rows_per_group);
    EXPECT_GE(plan.passes * plan.queries_per_pass, shape.nq);
  }
}

TEST(JobPlan, counts_the_memory_of_the_rank_with_the_largest_share) {
  JobShape shape = shape_of(1'000'000, 128, 10'000, 3, 4 * kGiB);
  const std::int64_t equal_bytes = plan_job(shape).memory_bytes;
  shape.weights = {1, 4, 3};
  const JobPlan plan = plan_job(shape);
  EXPECT_EQ(plan.rows_per_rank, 500'000);
  EXPECT_GT(plan.memory_bytes, equal_bytes);
  EXPECT_NE(to_string(plan, shape).find("shares of the base: 1, 4, 3\n"), std::string::npos);
}

TEST(JobPlan, streams_unequal_shares_below_the_limit) {
  JobShape shape = shape_of(30'000'000, 1024, 10'000, 4, kGiB);
  const JobPlan equal = plan_job(shape);
  shape.weights = {1, 0.25, 1, 0.01};
  const JobPlan plan = plan_job(shape);
  EXPECT_LE(plan.memory_bytes, kGiB);
  EXPECT_GT(plan.groups, equal.groups) << "a group is as large as the largest share allows";
  EXPECT_GE(plan.groups * plan.rows_per_group, shape.rows);
  EXPECT_LT((plan.groups - 1) * plan.rows_per_group, shape.rows);
  EXPECT_EQ(shape.most_rows_of_rank(plan.rows_per_group), plan.rows_per_rank);
  // Of 2.26 parts each of the fast ranks has one.
  EXPECT_NEAR(static_cast<double>(plan.rows_per_group) / static_cast<double>(plan.rows_per_rank), 2.26, 0.01);
}

TEST(JobPlan, keeps_every_group_of_unequal_shares_below_what_fits) {
  for (const std::vector<double>& weights :
       std::vector<std::vector<double>>{{.3, .4, .3}, {1, 1e-9}, {3, 2, 2, 1, 7}})
    for (std::int64_t rows = 3000; rows < 3040; ++rows) {
      JobShape shape = shape_of(rows, 64, 100, static_cast<int>(weights.size()), std::int64_t{400} << 10);
      shape.isa = "portable";
      shape.weights = weights;
      const JobPlan plan = plan_job(shape);
      ASSERT_GT(plan.groups, 1);
      EXPECT_LE(plan.memory_bytes, shape.memory_bytes);
      const std::int64_t last = rows - (plan.groups - 1) * plan.rows_per_group;
      EXPECT_LE(shape.most_rows_of_rank(last), plan.rows_per_rank + 1);
    }
}

TEST(JobPlan, takes_several_passes_when_not_even_the_queries_fit) {
  const JobPlan plan = plan_job(shape_of(10'000'000, 256, 50'000'000, 1, 2 * kGiB));
  EXPECT_GT(plan.passes, 1);
  EXPECT_LE(plan.memory_bytes, 2 * kGiB);
}

TEST(JobPlan, refuses_with_numbers_what_can_not_fit) {
  test::expect_error(
      ErrorKind::config, [] { plan_job(shape_of(1'000'000, 4096, 1000, 1, 1000)); }, "1000 B");
}

TEST(JobPlan, knows_what_clusters_hold_and_refuses_what_does_not_fit) {
  JobShape shape = shape_of(1'000'000, 4, 1'000'000, 2, 64 << 20);
  shape.eps = 1.0F;
  shape.exclude_self = true;
  shape.has_clusters = true;
  const JobPlan plan = plan_job(shape);
  EXPECT_GE(plan.cluster_bytes, 9'000'000);
  EXPECT_LE(plan.cluster_bytes, 10'000'000);
  EXPECT_EQ(plan.result_bytes, 8 * 1'000'001 + 9 * 1'000'000);
  shape.memory_bytes = 9'000'000;
  test::expect_error(
      ErrorKind::config, [&] { plan_job(shape); }, "--clusters holds 9 bytes a row", "8.6 MiB", "--memory");
  shape.has_clusters = false;
  EXPECT_EQ(plan_job(shape).cluster_bytes, 0);
}

TEST(JobPlan, of_a_streamed_range_search_says_nothing_of_resident_queries) {
  JobShape shape = shape_of(1'000'000, 64, 1000, 1, 32 << 20);
  shape.eps = 1.0F;
  const std::string text = to_string(plan_job(shape), shape);
  EXPECT_NE(text.find("base streamed"), std::string::npos) << text;
  EXPECT_EQ(text.find("resident"), std::string::npos) << text;
}

TEST(JobPlan, counts_beyond_32_bits) {
  const JobPlan plan = plan_job(shape_of(10'000'000'000, 96, 1'000'000, 64, 64 * kGiB));
  EXPECT_DOUBLE_EQ(plan.flops, 2.0 * 1e10 * 96 * 1e6);
  EXPECT_EQ(plan.result_bytes, 1'000'000LL * 10 * 12);
}

TEST(JobPlan, expects_time_only_from_known_roofs) {
  const JobShape shape = shape_of(1'000'000, 128, 10'000, 2, 4 * kGiB);
  EXPECT_EQ(plan_job(shape).search_seconds, 0);
  const JobPlan plan = plan_job(shape, {.flops_per_second = 1e12, .read_bytes_per_second = 1e9});
  EXPECT_NEAR(plan.search_seconds, 2.0 * 1e6 * 128 * 1e4 / 2 / 1e12, 1e-9);
  EXPECT_GT(plan.read_seconds, 0);
}

TEST(Bytes, are_read_and_written_with_units) {
  EXPECT_EQ(parse_bytes("8GiB"), 8 * kGiB);
  EXPECT_EQ(parse_bytes("8 gib"), 8 * kGiB);
  EXPECT_EQ(parse_bytes("1.5MB"), 1'500'000);
  EXPECT_EQ(parse_bytes("512"), 512);
  EXPECT_EQ(format_bytes(8 * kGiB), "8.0 GiB");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  for (const char* text : {"", "GiB", "8 apples", "-1GiB", "1e30GiB"})
    EXPECT_THROW(parse_bytes(text), Error) << text;
}

TEST(JobPlan, an_undirected_graph_lies_beside_the_directed_one_until_it_is_whole) {
  JobShape shape = shape_of(100'000, 32, 100'000, 2, 4 * kGiB);
  shape.exclude_self = true;
  const JobPlan directed = plan_job(shape);
  shape.symmetrized = true;
  const JobPlan undirected = plan_job(shape);
  EXPECT_EQ(undirected.result_bytes, 2 * directed.result_bytes);
  EXPECT_EQ(undirected.scratch_bytes, 3 * directed.result_bytes);
}

TEST(JobPlan, batches_are_larger_where_rows_are_packed) {
  JobShape shape = shape_of(1'000'000, 96, 100'000, 2, 4 * kGiB);
  shape.isa = "avx2";
  const JobPlan unpacked = plan_job(shape);
  shape.isa = "amx";
  EXPECT_GT(plan_job(shape).batch, 4 * unpacked.batch);
  shape.eps = 1;  // limits are searched in the rows themselves
  EXPECT_EQ(plan_job(shape).batch, unpacked.batch);
}

TEST(JobPlan, looking_into_some_lists_costs_their_share_and_the_centroids) {
  JobShape shape = shape_of(1'000'000, 96, 10'000, 2, 4 * kGiB);
  shape.isa = "avx2";
  const JobPlan whole = plan_job(shape);
  shape.lists = 1000;
  shape.nprobe = 10;
  const JobPlan some = plan_job(shape);
  EXPECT_DOUBLE_EQ(some.flops, whole.flops * (0.01 + 0.001));
  EXPECT_GT(some.batch, whole.batch);
  shape.nprobe = 0;
  EXPECT_EQ(shape.planned_nprobe(), 32);
  shape.memory_bytes = kGiB / 16;
  const JobPlan streamed = plan_job(shape);
  EXPECT_GT(streamed.groups, 1);
  EXPECT_LE(streamed.memory_bytes, shape.memory_bytes);
}

TEST(JobPlan, codes_take_the_place_of_the_rows) {
  JobShape shape = shape_of(1'000'000, 96, 10'000, 2, 4 * kGiB);
  shape.lists = 1000;
  shape.nprobe = 10;
  const JobPlan rows = plan_job(shape);
  shape.codec = kernels::CodecShape{24, 8};
  shape.rerank = 5;
  EXPECT_EQ(shape.searched_k(), 5 * shape.k);
  const JobPlan codes = plan_job(shape);
  EXPECT_LT(codes.memory_bytes, rows.memory_bytes / 3);
  EXPECT_EQ(codes.read_bytes, 1'000'000 * 24 + 10'000 * (shape.searched_k() * (96 * 4 + 8) + 96 * 4));
  EXPECT_DOUBLE_EQ(codes.flops, 1e4 * (2.0 * (1000 + 5.0 * static_cast<double>(shape.k)) * 96 + 10'000 * 24));
  shape.rerank = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(shape.searched_k(), shape.rows);
  shape.k = 2'000'000;
  EXPECT_EQ(shape.searched_k(), shape.k);
}

}  // namespace
}  // namespace mpishards::rank

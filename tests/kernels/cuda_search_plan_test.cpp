#include "kernels/cuda_search_plan.hpp"

#include <gtest/gtest.h>

#include <bit>

#include "kernels/half_bound.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels::cuda {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;
const DeviceLimits kLarge{125 * kGibibyte, 132, 227 * 1024};

std::int64_t bytes_of(const CudaSearchPlan& plan) {
  return plan.plane_bytes + (plan.rows_on_device ? plan.rows_bytes : 0) + plan.scratch_bytes;
}

TEST(CudaSearchPlan, holds_a_tile_beside_the_candidates_that_may_stay) {
  for (const std::int64_t nb : {1, 255, 256, 1000000, 30000000})
    for (const std::int64_t nq : {1, 100, 10000, 1000000})
      for (const std::int64_t k : {1, 10, 100, 10000})
        for (const std::int64_t d : {1, 96, 1024}) {
          const CudaSearchPlan plan = plan_cuda_search({nb, nq, d, k, DType::f32}, kLarge, false);
          EXPECT_GE(plan.buffer_entries, plan.room + plan.tile_rows);
          EXPECT_LE(plan.sample_rows, plan.tile_rows);
          EXPECT_LE(plan.sample_rows, nb);
          EXPECT_EQ(plan.tile_rows % kBoundRows, 0);
          EXPECT_EQ(plan.plane_cols % kPlaneAlignment, 0);
          EXPECT_GE(plan.plane_cols, d);
          EXPECT_TRUE(std::has_single_bit(static_cast<std::uint64_t>(plan.sort_entries)));
          EXPECT_GE(plan.sort_entries, plan.buffer_entries + std::min(k, nb));
          EXPECT_GE(plan.query_chunk, 1);
          EXPECT_LE(plan.query_chunk, nq);
          EXPECT_LE(bytes_of(plan), kLarge.memory_bytes);
        }
}

TEST(CudaSearchPlan, leaves_the_rows_on_the_host_where_only_the_plane_fits) {
  const SearchShape shape{30000000, 10000, 1024, 10, DType::f32};
  EXPECT_TRUE(plan_cuda_search({10000000, 10000, 1024, 10, DType::f32}, kLarge, false).rows_on_device);
  const CudaSearchPlan plan = plan_cuda_search(shape, kLarge, false);
  EXPECT_FALSE(plan.rows_on_device);
  EXPECT_NE(to_string(plan).find("stored rows on the host"), std::string::npos);
}

TEST(CudaSearchPlan, searches_fewer_queries_at_once_where_memory_is_short) {
  const SearchShape shape{1000000, 16384, 96, 1000, DType::f32};
  const CudaSearchPlan whole = plan_cuda_search(shape, kLarge, false);
  const CudaSearchPlan part = plan_cuda_search(shape, {3 * kGibibyte / 2, 132, 0}, false);
  EXPECT_EQ(whole.query_chunk, 16384);
  EXPECT_LT(part.query_chunk, 16384);
  EXPECT_LE(bytes_of(part), 3 * kGibibyte / 2);
}

TEST(CudaSearchPlan, fuses_product_and_filter_where_a_tile_fits_into_a_block) {
  const auto shares = [](std::int64_t d, std::int64_t nq, std::int64_t shared_bytes) {
    return plan_cuda_search({1000000, nq, d, 10, DType::f32}, {125 * kGibibyte, 132, shared_bytes}, false)
        .fused_shares;
  };
  EXPECT_GT(shares(96, 10000, 227 * 1024), 0);
  EXPECT_GT(shares(128, 10000, 163 * 1024), 0);
  EXPECT_GT(shares(256, 10000, 227 * 1024), 0);
  EXPECT_EQ(shares(256, 10000, 163 * 1024), 0);
  EXPECT_EQ(shares(1024, 10000, 227 * 1024), 0);
  EXPECT_EQ(shares(96, 10, 227 * 1024), 0);  // few queries leave its tiles empty
  EXPECT_GT(shares(96, 128, 227 * 1024), shares(96, 10000, 227 * 1024));
}

TEST(CudaSearchPlan, says_what_is_missing) {
  test::expect_error(ErrorKind::unavailable, [] {
    plan_cuda_search({30000000, 10, 1024, 10, DType::f32}, {40 * kGibibyte, 132, 0}, false);
  });
}

}  // namespace
}  // namespace mpishards::kernels::cuda

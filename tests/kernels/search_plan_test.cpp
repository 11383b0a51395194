#include "kernels/search_plan.hpp"

#include <gtest/gtest.h>

#include "flat_support.hpp"

namespace mpishards::kernels {
namespace {

TEST(SearchPlan, covers_what_the_engine_holds) {
  for (const std::string isa : {"auto", "portable"})
    for (const DType dtype : {DType::f32, DType::u8})
      for (const std::int64_t nb : {1, 700, 9000})
        for (const std::int64_t nq : {1, 9, 200})
          for (const std::int64_t k : {1, 2000})
            for (const int threads : {1, 3}) {
              const std::int64_t d = 5;
              Matrix base(dtype, nb, d);
              std::fill_n(base.data(), base.bytes(), std::byte{0});
              for (std::int64_t i = 0; i < nb * d && dtype == DType::u8; ++i)
                base.data()[i] = static_cast<std::byte>(i * 7919 % 251);
              for (std::int64_t i = 0; i < nb * d && dtype == DType::f32; ++i)
                base.as<float>().data[i] = static_cast<float>(i * 7919 % 251);
              const auto index = cpu::make_flat(Metric::l2, {threads, isa, 0});
              index->build(base.view(), {});
              const auto queries = normal_vectors(nq, d, 1, 100, 50);
              TopK out(nq, k, Metric::l2);
              index->search(queries_of(queries, d), {}, out);
              const CpuSearchPlan plan = plan_cpu_search({nb, nq, d, k, dtype}, {threads, isa});
              EXPECT_LE(static_cast<std::int64_t>(index->bytes()), plan.index_bytes + plan.scratch_bytes)
                  << to_string(plan);
              EXPECT_GE(static_cast<std::int64_t>(index->bytes()) * 2, plan.index_bytes + plan.scratch_bytes)
                  << "the plan says far more than is used: " << to_string(plan);
            }
}

TEST(SearchPlan, bounds_buffers_for_large_k) {
  const CpuSearchPlan plan = plan_cpu_search({1'000'000, 10'000, 128, 100'000, DType::f32}, {16, "auto"});
  EXPECT_GE(plan.buffer_entries, 200'000);
  EXPECT_LE(plan.scratch_bytes, std::int64_t{2} << 30);
}

TEST(SearchPlan, few_rows_need_little_room) {
  for (const std::string isa : {"avx2", "amx"}) {
    EXPECT_EQ(plan_cpu_search({64, 10'000, 128, 9, DType::f32}, {2, isa}).buffer_entries, 128) << isa;
    EXPECT_EQ(plan_cpu_search({1, 10'000, 128, 9, DType::f32}, {2, isa}).buffer_entries, 2) << isa;
    EXPECT_GE(plan_cpu_search({0, 10'000, 128, 9, DType::f32}, {2, isa}).buffer_entries, 1) << isa;
  }
  EXPECT_EQ(plan_cpu_list_search({{30, 1000, 128, 10, DType::f32}, 4, 2}, {2, "avx2"}).buffer_entries, 60);
}

TEST(SearchPlan, shares_the_base_for_few_queries_only) {
  EXPECT_TRUE(plan_cpu_search({1'000'000, 1, 128, 10, DType::f32}, {4, "auto"}).split_base);
  EXPECT_FALSE(plan_cpu_search({1'000'000, 10'000, 128, 10, DType::f32}, {4, "auto"}).split_base);
  EXPECT_FALSE(plan_cpu_search({100, 1, 128, 10, DType::f32}, {4, "auto"}).split_base);
}

TEST(SearchPlan, gives_each_thread_as_many_chunks) {
  const CpuSearchPlan plan = plan_cpu_search({60'000, 10'000, 784, 10, DType::f32}, {2, "auto"});
  const std::int64_t chunks = (10'000 + plan.query_tile - 1) / plan.query_tile;
  EXPECT_EQ(chunks % 2, 0);
}

}  // namespace
}  // namespace mpishards::kernels

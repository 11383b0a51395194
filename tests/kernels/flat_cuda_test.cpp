// The flat index of the CUDA engine against the oracle: on a device, or its kernels run on the host
// (on_host).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "flat_support.hpp"
#include "kernels/cuda/flat.hpp"
#include "kernels/devices.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

struct Found {
  TopK answer;
  SearchCounters counters;
};

Found search_cuda(TypedView base, const std::vector<float>& queries, std::int64_t k, Metric metric,
                  const cuda::CudaOverrides& overrides = {}, RowIds ids = {},
                  std::span<const float> bound = {}) {
  const auto index = cuda::make_flat(metric, {}, overrides);
  index->build(base, ids);
  TopK out(static_cast<std::int64_t>(queries.size()) / base.cols, k, metric);
  index->search(queries_of(queries, base.cols), bound, out);
  return {out, index->counters()};
}

SearchCounters expect_exact_on_device(const std::vector<float>& base, const std::vector<float>& queries,
                                      std::int64_t d, std::int64_t k, Metric metric,
                                      const cuda::CudaOverrides& overrides = {}) {
  const std::string what = std::string(to_string(metric)) + " nb " +
                           std::to_string(base.size() / std::size_t(d)) + " d " + std::to_string(d) + " k " +
                           std::to_string(k);
  const Found found = search_cuda(view_of(base, d), queries, k, metric, overrides);
  expect_answer(found.answer, oracle::search(base, queries, d, k, measure_of(metric)), what);
  return found.counters;
}

class FlatCuda : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
#if !defined(MPISHARDS_KERNELS_ON_HOST)
    std::string why_none;
    if (list_gpus(why_none).empty()) GTEST_SKIP() << why_none;
#endif
  }
};

TEST_P(FlatCuda, equals_the_oracle_on_random_vectors) {
  for (const std::int64_t d : {1, 3, 8, 37, 128})
    for (const std::int64_t nb : {1, 5, 999})
      for (const std::int64_t k : {1, 10, 100})
        expect_exact_on_device(normal_vectors(nb, d, 1), normal_vectors(4, d, 2), d, k, GetParam());
}

TEST_P(FlatCuda, equals_the_oracle_on_exact_vectors_with_many_ties) {
  for (const std::int64_t d : {1, 2, 5, 64})
    expect_exact_on_device(exact_vectors::make(2000, d, 3, -2, 2), exact_vectors::make(9, d, 4, -2, 2), d, 20,
                           GetParam());
}

TEST_P(FlatCuda, equals_the_oracle_in_very_many_dimensions) {
  expect_exact_on_device(normal_vectors(60, 8191, 1), normal_vectors(3, 8191, 2), 8191, 5, GetParam());
}

TEST_P(FlatCuda, gives_the_same_bytes_for_any_tiles_and_places_of_the_rows) {
  const auto base = exact_vectors::make(1300, 6, 5, -3, 3);
  const auto queries = exact_vectors::make(9, 6, 6, -3, 3);
  const auto expected = oracle::search(base, queries, 6, 30, measure_of(GetParam()));
  for (const std::int64_t query_chunk : {1, 7, 9})
    for (const std::int64_t tile_rows : {256, 1024})
      for (const std::int64_t room : {31, 400})
        for (const std::int64_t sample_rows : {0, 100})
          for (const bool rows_on_host : {false, true}) {
            if (rows_on_host && query_chunk != 7) continue;
            const cuda::CudaOverrides overrides{.query_chunk = query_chunk,
                                                .tile_rows = tile_rows,
                                                .room = room,
                                                .sample_rows = sample_rows,
                                                .rows_on_host = rows_on_host};
            expect_answer(search_cuda(view_of(base, 6), queries, 30, GetParam(), overrides).answer, expected,
                          std::to_string(query_chunk) + " x " + std::to_string(tile_rows) + ", room " +
                              std::to_string(room) + ", sample " + std::to_string(sample_rows));
          }
}

TEST_P(FlatCuda, equals_the_oracle_where_product_and_filter_are_fused) {
  for (const std::int64_t d : {1, 16, 37, 96, 130})
    for (const std::int64_t nb : {1, 127, 700})
      for (const std::int64_t fused_shares : {1, 2}) {
        const std::int64_t nq = d == 96 && nb == 700 ? 130 : 5;
        expect_exact_on_device(normal_vectors(nb, d, 1), normal_vectors(nq, d, 2), d, 10, GetParam(),
                               {.tile_rows = 256, .fused_shares = fused_shares});
      }
}

TEST_P(FlatCuda, searches_again_where_the_fused_kernel_has_no_room) {
  auto base = normal_vectors(900, 3, 50);
  std::fill(base.begin() + 300, base.begin() + 2400, 4.0f);  // 700 equal rows
  const std::vector<float> queries = {4, 4, 4, 1, 0, 0, -9, -9, -9};
  std::vector<std::int64_t> ids(900);
  std::iota(ids.rbegin(), ids.rend(), 0);  // the best of the equal rows come last
  const Found found =
      search_cuda(view_of(base, 3), queries, 10, GetParam(),
                  {.tile_rows = 256, .room = 31, .sample_rows = 0, .fused_shares = 1}, {0, ids});
  expect_answer(found.answer, oracle::search(base, queries, 3, 10, measure_of(GetParam()), ids),
                "overflowed");
  EXPECT_GE(found.counters.widened, 1);
  EXPECT_EQ(found.counters.queries, 3);
}

TEST_P(FlatCuda, orders_equal_rows_by_id) {
  std::vector<float> base;
  for (int row = 0; row < 2000; ++row) base.insert(base.end(), {1.5f, -2.0f, 0.25f});
  const std::vector<float> queries = {1, 2, 3, 0, 0, 0, 1.5f, -2.0f, 0.25f};
  for (const std::int64_t k : {1, 10, 700}) expect_exact_on_device(base, queries, 3, k, GetParam());
  std::vector<std::int64_t> ids(2000);
  std::iota(ids.rbegin(), ids.rend(), 5);
  const Found found = search_cuda(view_of(base, 3), queries, 10, GetParam(), {}, {0, ids});
  expect_answer(found.answer, oracle::search(base, queries, 3, 10, measure_of(GetParam()), ids),
                "descending ids");
  EXPECT_EQ(found.counters.widened, 3);  // no bound tells equal rows apart
}

TEST_P(FlatCuda, finds_rows_far_from_the_origin) {
  expect_exact_on_device(normal_vectors(1500, 64, 7, 1e4f), normal_vectors(6, 64, 8, 1e4f), 64, 10,
                         GetParam());
}

TEST_P(FlatCuda, is_exact_whatever_the_magnitudes) {
  for (const float rows : {1e-42f, 1e-21f, 1.0f, 1e30f})
    for (const float queries : {1e-43f, 1e-12f, 1.0f, 1e30f})
      expect_exact_on_device(normal_vectors(600, 12, 9, 0, rows), normal_vectors(3, 12, 10, 0, queries), 12,
                             10, GetParam());
  auto base = normal_vectors(3000, 12, 11);
  for (std::size_t i = 12 * 1000; i < 12 * 1004; ++i) base[i] *= 1e37f;  // one bound of many
  expect_exact_on_device(base, normal_vectors(5, 12, 12), 12, 10, GetParam());
}

TEST_P(FlatCuda, handles_zero_vectors) {
  auto base = normal_vectors(1000, 9, 15);
  auto queries = normal_vectors(4, 9, 16);
  std::fill_n(base.begin() + 90, 45, 0.0f);
  std::fill_n(queries.begin() + 9, 9, 0.0f);
  expect_exact_on_device(base, queries, 9, 12, GetParam());
  expect_exact_on_device(std::vector<float>(90, 0.0f), queries, 9, 12, GetParam());
}

TEST_P(FlatCuda, finds_what_sorted_files_put_last) {
  auto base = normal_vectors(4000, 1, 17);
  std::sort(base.begin(), base.end());
  std::vector<float> rows;
  for (const float value : base) rows.insert(rows.end(), {value, 0.5f * value, 1, -value});
  expect_exact_on_device(rows, {9, 0, 0, 0, -9, 0, 0, 0, 0, 1, 1, 1}, 4, 50, GetParam(),
                         {.tile_rows = 512, .room = 60, .sample_rows = 0});
}

TEST_P(FlatCuda, pads_when_k_exceeds_the_rows) {
  for (const std::int64_t nb : {1, 3, 700})
    expect_exact_on_device(normal_vectors(nb, 5, 18), normal_vectors(3, 5, 19), 5, 1000, GetParam());
}

TEST_P(FlatCuda, takes_large_k) {
  expect_exact_on_device(normal_vectors(12000, 4, 20), normal_vectors(2, 4, 21), 4, 10000, GetParam());
}

TEST_P(FlatCuda, searches_every_dtype_as_stored) {
  const auto values = exact_vectors::make(600, 21, 22, 0, 100);
  const auto queries = exact_vectors::make(5, 21, 23, 0, 100);
  const auto expected = oracle::search(values, queries, 21, 15, measure_of(GetParam()));
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::u8, DType::i8}) {
    Matrix base(dtype, 600, 21);
    convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data()), dtype, base.data(),
                     600 * 21);
    expect_answer(search_cuda(base.view(), queries, 15, GetParam()).answer, expected,
                  std::string(to_string(dtype)));
  }
}

TEST_P(FlatCuda, needs_no_queries_and_no_rows) {
  const std::vector<float> none;
  const auto some = normal_vectors(10, 4, 26);
  EXPECT_EQ(search_cuda(view_of(some, 4), none, 3, GetParam()).answer.nq(), 0);
  EXPECT_EQ(search_cuda({DType::f32, nullptr, 0, 4}, some, 3, GetParam()).answer, TopK(10, 3, GetParam()));
}

TEST_P(FlatCuda, streams_parts_through_one_index_within_the_bound) {
  const auto base = normal_vectors(3000, 16, 29);
  const auto queries = normal_vectors(12, 16, 30);
  const auto index = cuda::make_flat(GetParam(), {});
  TopK merged(12, 20, GetParam());
  TopK part(12, 20, GetParam());
  for (std::int64_t begin = 0; begin < 3000; begin += 700) {
    const std::int64_t rows = std::min<std::int64_t>(700, 3000 - begin);
    index->build({DType::f32, reinterpret_cast<const std::byte*>(base.data() + begin * 16), rows, 16},
                 {begin, {}});
    std::vector<float> bound;
    for (std::int64_t q = 0; q < 12; ++q) bound.push_back(merged.kth_distance(q));
    index->search(queries_of(queries, 16), bound, part);
    merge_into(merged, part);
  }
  expect_answer(merged, oracle::search(base, queries, 16, 20, measure_of(GetParam())), "streamed");
  EXPECT_EQ(index->counters().queries, 60);
  EXPECT_EQ(index->counters().certified, 60);
  EXPECT_EQ(index->counters().distances, 12 * 3000);
}

TEST_P(FlatCuda, moves_rows_and_buffers_where_searches_differ_in_size) {
  constexpr std::int64_t kMemory = 2500000;  // of the device: for the rows beside a small search only
  const auto base = normal_vectors(3000, 64, 60);
  const auto queries = normal_vectors(64, 64, 61);
  const auto index = cuda::make_flat(GetParam(), {}, {.memory_bytes = kMemory});
  index->build(view_of(base, 64), {});
  for (const bool is_large : {false, true, false, true}) {
    const std::vector<float> some(queries.begin(), queries.begin() + (is_large ? 64 : 4) * 64);
    const std::int64_t k = is_large ? 800 : 5;
    TopK found(std::ssize(some) / 64, k, GetParam());
    index->search(queries_of(some, 64), {}, found);
    expect_answer(found, oracle::search(base, some, 64, k, measure_of(GetParam())),
                  is_large ? "a large search" : "a small search");
#if defined(MPISHARDS_KERNELS_ON_HOST)
    EXPECT_LE(index->bytes(), static_cast<std::size_t>(kMemory));  // without the library's workspace
#endif
  }
}

TEST_P(FlatCuda, certifies_ordinary_data_with_few_candidates) {
  const SearchCounters counters =
      expect_exact_on_device(normal_vectors(8000, 32, 31), normal_vectors(10, 32, 32), 32, 10, GetParam());
  EXPECT_EQ(counters.certified, 10);
  EXPECT_GE(counters.candidates, 100);
  EXPECT_LE(counters.candidates, 150);
  EXPECT_EQ(counters.reranked, counters.candidates);
}

/// A bound that is too small loses neighbors: so it is the bound that finds them.
TEST_P(FlatCuda, needs_its_bound) {
  const std::int64_t d = 24;
  const auto base = normal_vectors(4000, d, 41, 10, 3e-2f);
  const auto queries = normal_vectors(8, d, 42, 10, 3e-2f);
  const auto expected = oracle::search(base, queries, d, 10, measure_of(GetParam()));
  expect_exact_on_device(base, queries, d, 10, GetParam());
  const Found weakened = search_cuda(view_of(base, d), queries, 10, GetParam(), {.error_factor = 1e-4});
  EXPECT_FALSE(std::equal(expected.neighbors.begin(), expected.neighbors.end(), weakened.answer.neighbors()));
}

/// Two kinds of rows that the plane brings farther apart than they are, by all of the bound, and the wrong
/// way round.
TEST_P(FlatCuda, prunes_by_both_ends_of_a_score) {
  constexpr std::int64_t kDims = 65;
  std::vector<float> query(kDims, 1.0f);
  std::vector<float> base;
  for (int row = 0; row < 305; ++row) {
    const bool is_best = row >= 300;  // rounded down, where the others are rounded up
    std::vector<float> values(kDims, is_best ? 1 + 0x1p-11f - 0x1p-22f : 1 + 0x1p-11f + 0x1p-22f);
    values.back() = is_best ? 0x1p-10f : 0.0f;
    base.insert(base.end(), values.begin(), values.end());
  }
  expect_exact_on_device(base, query, kDims, 5, GetParam(), {.tile_rows = 512, .sample_rows = 0});
}

INSTANTIATE_TEST_SUITE_P(Metrics, FlatCuda, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

}  // namespace
}  // namespace mpishards::kernels

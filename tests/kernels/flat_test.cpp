#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.hpp"
#include "flat_support.hpp"
#include "kernels/index.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

class Flat : public testing::TestWithParam<Metric> {};

TEST_P(Flat, equals_the_oracle_on_random_vectors) {
  for (const std::int64_t d : {1, 3, 8, 37, 128})
    for (const std::int64_t nb : {1, 5, 999, 3001})
      for (const std::int64_t k : {1, 10, 100})
        expect_exact(normal_vectors(nb, d, 1), normal_vectors(7, d, 2), d, k, GetParam());
}

TEST_P(Flat, equals_the_oracle_on_exact_vectors_with_many_ties) {
  for (const std::int64_t d : {1, 2, 5, 64})
    expect_exact(exact_vectors::make(2000, d, 3, -2, 2), exact_vectors::make(9, d, 4, -2, 2), d, 20,
                 GetParam());
}

TEST_P(Flat, equals_the_oracle_in_very_many_dimensions) {
  expect_exact(normal_vectors(60, 8191, 1), normal_vectors(3, 8191, 2), 8191, 5, GetParam());
}

TEST_P(Flat, gives_the_same_bytes_for_any_threads_tiles_and_instructions) {
  const auto base = exact_vectors::make(5000, 6, 5, -3, 3);
  const auto queries = exact_vectors::make(45, 6, 6, -3, 3);
  const auto expected = oracle::search(base, queries, 6, 30, measure_of(GetParam()));
  for (const std::string& isa : isa_names())
    for (const int threads : {1, 2, 3})
      for (const std::int64_t query_tile : {1, 7, 64})
        for (const std::int64_t base_tile : {1, 17, 512})
          for (const bool split_base : {false, true}) {
            if (base_tile == 1 && query_tile != 7) continue;
            Settings settings{threads, isa, {}};
            settings.overrides.query_tile = query_tile;
            settings.overrides.base_tile = base_tile;
            settings.overrides.buffer_entries = 64;
            settings.overrides.split_base = split_base;
            settings.overrides.sample_rows = query_tile * 10;
            expect_answer(search_flat(base, queries, 6, 30, GetParam(), settings), expected,
                          isa + " threads " + std::to_string(threads) + " tiles " +
                              std::to_string(query_tile) + " " + std::to_string(base_tile) +
                              (split_base ? " split" : ""));
          }
}

TEST_P(Flat, orders_equal_rows_by_id) {
  std::vector<float> base;
  for (int row = 0; row < 2000; ++row) base.insert(base.end(), {1.5f, -2.0f, 0.25f});
  const std::vector<float> queries = {1, 2, 3, 0, 0, 0, 1.5f, -2.0f, 0.25f};
  for (const std::int64_t k : {1, 10, 700}) expect_exact(base, queries, 3, k, GetParam());
  std::vector<std::int64_t> ids(2000);
  std::iota(ids.rbegin(), ids.rend(), 5);
  SearchCounters counters;
  const TopK found = search_typed(view_of(base, 3), queries, 10, GetParam(), {}, {0, ids}, {}, &counters);
  expect_answer(found, oracle::search(base, queries, 3, 10, measure_of(GetParam()), ids), "descending ids");
  EXPECT_EQ(counters.widened, 3);  // no bound tells equal rows apart
}

TEST_P(Flat, finds_rows_far_from_the_origin) {
  expect_exact(normal_vectors(1500, 64, 7, 1e4f), normal_vectors(6, 64, 8, 1e4f), 64, 10, GetParam());
}

TEST_P(Flat, is_exact_where_float32_overflows) {
  expect_exact(normal_vectors(900, 12, 9, 0, 1e30f), normal_vectors(5, 12, 10, 0, 1e30f), 12, 10, GetParam());
  auto base = normal_vectors(3000, 12, 11);
  for (std::size_t i = 12 * 1000; i < 12 * 1004; ++i) base[i] *= 1e37f;  // one tile of three
  expect_exact(base, normal_vectors(5, 12, 12), 12, 10, GetParam());
}

TEST_P(Flat, is_exact_among_subnormal_numbers) {
  expect_exact(normal_vectors(900, 12, 13, 0, 1e-42f), normal_vectors(5, 12, 14, 0, 1e-42f), 12, 10,
               GetParam());
  expect_exact(normal_vectors(900, 12, 13, 0, 1e-21f), normal_vectors(5, 12, 14, 0, 1e-21f), 12, 10,
               GetParam());
  expect_exact(normal_vectors(900, 12, 13, 0, 1.0f), normal_vectors(5, 12, 14, 0, 1e-43f), 12, 10,
               GetParam());
}

TEST_P(Flat, handles_zero_vectors) {
  auto base = normal_vectors(1000, 9, 15);
  auto queries = normal_vectors(4, 9, 16);
  std::fill_n(base.begin() + 90, 45, 0.0f);
  std::fill_n(queries.begin() + 9, 9, 0.0f);
  expect_exact(base, queries, 9, 12, GetParam());
}

TEST_P(Flat, finds_what_sorted_files_put_last) {
  auto base = normal_vectors(4000, 4, 17);
  std::vector<std::vector<float>> rows;
  for (std::size_t i = 0; i < base.size(); i += 4)
    rows.emplace_back(base.begin() + std::ptrdiff_t(i), base.begin() + std::ptrdiff_t(i) + 4);
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a[0] < b[0]; });
  base.clear();
  for (const auto& row : rows) base.insert(base.end(), row.begin(), row.end());
  expect_exact(base, {9, 0, 0, 0, -9, 0, 0, 0, 0, 1, 1, 1}, 4, 50, GetParam());
}

TEST_P(Flat, pads_when_k_exceeds_the_rows) {
  for (const std::int64_t nb : {1, 3, 700})
    expect_exact(normal_vectors(nb, 5, 18), normal_vectors(3, 5, 19), 5, 1000, GetParam());
}

TEST_P(Flat, takes_large_k) {
  expect_exact(normal_vectors(12000, 4, 20), normal_vectors(3, 4, 21), 4, 10000, GetParam(), {2, "auto", {}});
}

TEST_P(Flat, searches_every_dtype_as_stored) {
  const auto values = exact_vectors::make(1100, 21, 22, 0, 100);
  const auto queries = exact_vectors::make(5, 21, 23, 0, 100);
  const auto expected = oracle::search(values, queries, 21, 15, measure_of(GetParam()));
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::u8, DType::i8}) {
    Matrix base(dtype, 1100, 21);
    convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data()), dtype, base.data(),
                     1100 * 21);
    expect_answer(search_typed(base.view(), queries, 15, GetParam()), expected,
                  std::string(to_string(dtype)));
  }
}

TEST_P(Flat, narrows_float64_before_anything_else) {
  std::vector<double> wide(500 * 7);
  std::mt19937_64 random(24);
  std::normal_distribution<double> normal;
  for (double& value : wide) value = normal(random);
  const std::vector<float> narrowed(wide.begin(), wide.end());
  const auto queries = normal_vectors(4, 7, 25);
  const TypedView base{DType::f64, reinterpret_cast<const std::byte*>(wide.data()), 500, 7};
  expect_answer(search_typed(base, queries, 10, GetParam()),
                oracle::search(narrowed, queries, 7, 10, measure_of(GetParam())), "f64");
}

TEST_P(Flat, needs_no_queries_and_no_rows) {
  const std::vector<float> none;
  const auto some = normal_vectors(10, 4, 26);
  EXPECT_EQ(search_typed(view_of(some, 4), none, 3, GetParam()).nq(), 0);
  const TopK padded = search_typed({DType::f32, nullptr, 0, 4}, some, 3, GetParam());
  EXPECT_EQ(padded, TopK(10, 3, GetParam()));
}

TEST_P(Flat, leaves_out_only_what_is_worse_than_the_bound) {
  const auto base = exact_vectors::make(3000, 3, 27, -5, 5);  // few distinct distances: many equal the bound
  const auto queries = exact_vectors::make(20, 3, 28, -5, 5);
  const TopK full = search_flat(base, queries, 3, 40, GetParam());
  for (const std::int64_t place : {0, 20, 39}) {
    std::vector<float> bound;
    for (std::int64_t q = 0; q < 20; ++q)
      bound.push_back(full.row(q).distances[static_cast<std::size_t>(place)]);
    TopK expected = full;
    for (std::int64_t q = 0; q < 20; ++q)
      for (std::size_t i = 0; i < 40; ++i) {
        const float distance = full.row(q).distances[i];
        const float limit = bound[static_cast<std::size_t>(q)];
        if (GetParam() == Metric::l2 ? distance <= limit : distance >= limit) continue;
        expected.row(q).neighbors[i] = kNoNeighbor;
        expected.row(q).distances[i] = worst_distance(GetParam());
      }
    for (const int threads : {1, 3})
      EXPECT_EQ(search_typed(view_of(base, 3), queries, 40, GetParam(), {threads, "auto", {}}, {}, bound),
                expected)
          << place;
  }
  const std::vector<float> no_bound(20, worst_distance(GetParam()));
  EXPECT_EQ(search_typed(view_of(base, 3), queries, 40, GetParam(), {}, {}, no_bound), full);
}

TEST_P(Flat, streams_parts_through_one_index) {
  const auto base = normal_vectors(3000, 16, 29);
  const auto queries = normal_vectors(12, 16, 30);
  const auto index = cpu::make_flat(GetParam(), {2, "auto", 0});
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
  EXPECT_EQ(index->counters().certified + index->counters().widened, 60);
  EXPECT_EQ(index->counters().distances, 12 * 3000);
}

/// An index of rows that packs them for the first query.
std::unique_ptr<Index> packing_index(TypedView base, Metric metric, const std::string& isa) {
  cpu::FlatOverrides overrides;
  overrides.queries_worth_packing = 1;
  auto index = cpu::make_flat(metric, {1, isa, 0}, overrides);
  index->build(base, {});
  return index;
}

TEST_P(Flat, keeps_its_sample_for_fewer_neighbors) {
  constexpr std::int64_t kRows = 120'000;  // so many that k decides how many of them are sampled
  const auto base = normal_vectors(kRows, 4, 35);
  const auto queries = normal_vectors(2, 4, 36);
  const auto expected = oracle::search(base, queries, 4, 600, measure_of(GetParam()));
  const auto fewer_expected = oracle::search(base, queries, 4, 500, measure_of(GetParam()));
  for (const std::string& isa : isa_names()) {
    const auto index = packing_index(view_of(base, 4), GetParam(), isa);
    std::size_t first_bytes = 0;
    for (const std::int64_t k : {600, 500, 600}) {
      TopK found(2, k, GetParam());
      index->search(queries_of(queries, 4), {}, found);
      expect_answer(found, k == 600 ? expected : fewer_expected, isa);
      if (first_bytes == 0) first_bytes = index->bytes();
      EXPECT_EQ(index->bytes(), first_bytes) << isa << " k " << k;
    }
  }
}

TEST_P(Flat, has_room_for_more_queries_with_a_sample_for_more_neighbors) {
  const auto base = normal_vectors(30'000, 4, 37);
  const auto few = normal_vectors(16, 4, 38);
  const auto many = normal_vectors(64, 4, 39);
  const auto expected = oracle::search(base, many, 4, 30, measure_of(GetParam()));
  for (const std::string& isa : isa_names()) {
    const auto index = packing_index(view_of(base, 4), GetParam(), isa);
    TopK neighbors(16, 100, GetParam());
    index->search(queries_of(few, 4), {}, neighbors);
    TopK found(64, 30, GetParam());
    index->search(queries_of(many, 4), {}, found);
    expect_answer(found, expected, isa);
  }
}

TEST_P(Flat, certifies_ordinary_data_with_few_candidates) {
  const auto base = normal_vectors(20000, 32, 31);
  for (const std::string& isa : isa_names()) {
    SearchCounters counters;
    search_typed(view_of(base, 32), normal_vectors(20, 32, 32), 10, GetParam(), {1, isa, {}}, {}, {},
                 &counters);
    EXPECT_EQ(counters.certified, 20) << isa;
    EXPECT_GE(counters.candidates, 200) << isa;
    EXPECT_LE(counters.candidates, isa == "amx" ? 300 : 240) << isa;  // bfloat16 says less than float32
    EXPECT_LE(counters.reranked, counters.candidates) << isa;
  }
}

TEST_P(Flat, works_under_another_float_environment) {
  const auto base = normal_vectors(900, 12, 33, 0, 1e-21f);
  const auto queries = normal_vectors(5, 12, 34, 0, 1e-21f);
  const auto expected = oracle::search(base, queries, 12, 10, measure_of(GetParam()));
  std::fesetround(FE_UPWARD);
  const TopK found = search_flat(base, queries, 12, 10, GetParam());
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  expect_answer(found, expected, "rounding upward");
}

INSTANTIATE_TEST_SUITE_P(Metrics, Flat, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

/// Rows at distances that differ in double, not in float32; the smaller ids are the slightly farther ones.
std::vector<float> rows_that_tie_after_rounding(std::int64_t rows) {
  std::vector<float> base;
  for (std::int64_t row = 0; row < rows; ++row)
    base.insert(base.end(), {1.0f, static_cast<float>(rows - row) * 0x1p-20f, 0.0f});
  return base;
}

TEST(FlatTies, order_by_the_rounded_distance_then_id) {
  const auto base = rows_that_tie_after_rounding(300);
  const std::vector<float> queries = {0, 0, 0};
  const auto expected = oracle::search(base, queries, 3, 5, oracle::Measure::l2);
  ASSERT_EQ(expected.distances[0], expected.distances[4]);
  ASSERT_LT(oracle::distance(queries.data(), &base[3 * 299], 3, oracle::Measure::l2),
            oracle::distance(queries.data(), &base[3 * static_cast<std::size_t>(expected.neighbors[0])], 3,
                             oracle::Measure::l2));
  for (const std::string& isa : isa_names()) expect_exact(base, queries, 3, 5, Metric::l2, {1, isa, {}});
}

TEST(FlatTies, hold_when_the_distance_is_rounded_to_infinity) {
  auto base = normal_vectors(500, 8, 40, 0, 1e25f);
  expect_exact(base, normal_vectors(3, 8, 41, 0, 1e25f), 8, 20, Metric::l2);
  // Scores that float32 can bound, distances that it can't hold.
  expect_exact(normal_vectors(500, 8, 40, 0, 1e16f), normal_vectors(3, 8, 41, 0, 2e19f), 8, 20, Metric::l2);
}

/// Two rows whose float32 scores err by almost the whole bound, one down and one up, so that they change
/// places.
///
/// From 1 on, each further product of row 0 is just below half a unit in the last place and is lost, each one
/// of row 1 just above and counts as a whole unit, when summed one by one.
struct AlmostWorstCase {
  static constexpr std::int64_t d = 201;
  static constexpr float kUnit = 0x1p-24f;
  std::vector<float> query = std::vector<float>(d, 0x1p-12f);
  std::vector<float> base = std::vector<float>(2 * d, 0.99f * 0x1p-12f);

  AlmostWorstCase() {
    query[0] = 1;
    std::fill(base.begin() + d, base.end(), 1.01f * 0x1p-12f);
    base[0] = 1 + 12 * kUnit;
    base[static_cast<std::size_t>(d)] = 1;
  }
};

TEST(FlatCertificate, finds_the_row_that_float32_misplaces) {
  const AlmostWorstCase data;
  ASSERT_EQ(oracle::search(data.base, data.query, data.d, 1, oracle::Measure::ip).neighbors[0], 0);
  for (const std::string& isa : isa_names())
    expect_exact(data.base, data.query, data.d, 1, Metric::ip, {1, isa, {}});
}

TEST(FlatCertificate, half_the_bound_is_not_enough) {
  if (!has_isa("avx2")) GTEST_SKIP() << "made for the order of summation of the AVX2 kernel";
  const AlmostWorstCase data;
  Settings settings{1, "avx2", {}};
  settings.overrides.error_factor = 0.5;
  EXPECT_EQ(search_flat(data.base, data.query, data.d, 1, Metric::ip, settings).neighbors()[0], 1);
}

TEST(FlatErrors, say_which_shapes_disagree) {
  const auto base = normal_vectors(10, 4, 1);
  const auto queries = normal_vectors(2, 5, 1);
  const auto index = cpu::make_flat(Metric::l2, {});
  index->build(view_of(base, 4), {});
  TopK out(2, 3, Metric::l2);
  test::expect_error(
      ErrorKind::usage, [&] { index->search(queries_of(queries, 5), {}, out); }, "queries.d = 5, base.d = 4");
  const std::vector<float> one_bound(1);
  EXPECT_THROW(index->search({base.data(), 2, 4}, one_bound, out), Error);
  TopK other(3, 3, Metric::l2);
  EXPECT_THROW(index->search({base.data(), 2, 4}, {}, other), Error);
}

}  // namespace
}  // namespace mpishards::kernels

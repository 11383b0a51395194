#include <gtest/gtest.h>

#include <algorithm>
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

constexpr std::int64_t kPlenty = 100'000'000;

class RangeSearch : public testing::TestWithParam<Metric> {};

/// All rows within the limit by a triple loop in double and a full sort.
RangeHits oracle_hits(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                      Metric metric, const RangeRequest& request, const std::vector<GlobalId>& ids = {}) {
  const float sign = metric == Metric::l2 ? 1.0f : -1.0f;
  RangeHits answer;
  for (std::size_t q = 0; q < queries.size() / std::size_t(d); ++q) {
    std::vector<std::pair<float, GlobalId>> row_hits;
    for (std::size_t row = 0; row < base.size() / std::size_t(d); ++row) {
      const GlobalId id = ids.empty() ? GlobalId(row) : ids[row];
      const GlobalId self = request.first_query + GlobalId(q);
      if (request.pairs == RangePairs::others && id == self) continue;
      if (request.pairs == RangePairs::later && id <= self) continue;
      const auto distance = float(
          oracle::distance(&queries[q * std::size_t(d)], &base[row * std::size_t(d)], d, measure_of(metric)));
      if (sign * distance <= sign * request.limit) row_hits.emplace_back(sign * distance, id);
    }
    std::sort(row_hits.begin(), row_hits.end());
    for (const auto& [key, id] : row_hits) {
      answer.neighbors.push_back(id);
      answer.distances.push_back(sign * key);
    }
    answer.offsets.push_back(std::int64_t(answer.neighbors.size()));
  }
  return answer;
}

struct Found {
  bool complete = false;
  RangeHits hits;
  SearchCounters counters;
};

Found find(TypedView base, const std::vector<float>& queries, Metric metric, const RangeRequest& request,
           const Settings& settings = {}, RowIds ids = {}) {
  const auto index = cpu::make_flat(metric, {settings.threads, settings.isa, 0}, settings.overrides);
  index->build(base, ids);
  Found found;
  found.complete = index->search_range(queries_of(queries, base.cols), request, found.hits);
  found.counters = index->counters();
  return found;
}

void expect_hits(const Found& found, const RangeHits& expected, const std::string& what) {
  EXPECT_TRUE(found.complete) << what;
  EXPECT_EQ(found.hits.offsets, expected.offsets) << what;
  EXPECT_EQ(found.hits.neighbors, expected.neighbors) << what;
  EXPECT_EQ(found.hits.distances, expected.distances) << what;
}

void expect_exact_hits(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                       Metric metric, const RangeRequest& request, const Settings& settings = {}) {
  expect_hits(find(view_of(base, d), queries, metric, request, settings),
              oracle_hits(base, queries, d, metric, request),
              "d " + std::to_string(d) + " limit " + std::to_string(request.limit));
}

/// The distance of the place-th nearest pair: a limit that some pair sits exactly on.
float limit_at(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
               Metric metric, double share) {
  const auto nb = std::int64_t(base.size()) / d;
  const auto k = std::max<std::int64_t>(1, std::int64_t(share * double(nb)));
  return oracle::search(base, queries, d, k, measure_of(metric)).distances[std::size_t(k) - 1];
}

TEST_P(RangeSearch, equals_the_oracle_with_a_limit_that_sits_on_a_distance) {
  for (const std::int64_t d : {1, 3, 8, 37, 128})
    for (const std::int64_t nb : {1, 5, 999, 3001})
      for (const std::int64_t nq : {1, 70})
        for (const double share : {0.002, 0.5}) {
          const auto base = normal_vectors(nb, d, 1);
          const auto queries = normal_vectors(nq, d, 2);
          const float on = limit_at(base, queries, d, GetParam(), share);
          const float better = GetParam() == Metric::l2 ? -1.0f : 1e30f;
          for (const float limit : {on, std::nextafter(on, better)})
            expect_exact_hits(base, queries, d, GetParam(), {limit, kPlenty}, {2, "auto", {}});
        }
}

TEST_P(RangeSearch, gives_the_same_bytes_for_any_threads_tiles_and_instructions) {
  const auto base = exact_vectors::make(3000, 6, 5, -3, 3);
  const auto queries = exact_vectors::make(45, 6, 6, -3, 3);
  const RangeRequest request{limit_at(base, queries, 6, GetParam(), 0.02), kPlenty};
  const RangeHits expected = oracle_hits(base, queries, 6, GetParam(), request);
  for (const std::string& isa : isa_names())
    for (const int threads : {1, 2, 3})
      for (const std::int64_t query_tile : {1, 7, 64})
        for (const std::int64_t base_tile : {17, 512})
          for (const bool split_base : {false, true}) {
            Settings settings{threads, isa, {}};
            settings.overrides.query_tile = query_tile;
            settings.overrides.base_tile = base_tile;
            settings.overrides.split_base = split_base;
            expect_hits(find(view_of(base, 6), queries, GetParam(), request, settings), expected,
                        isa + " threads " + std::to_string(threads) + " tiles " + std::to_string(query_tile) +
                            " " + std::to_string(base_tile));
          }
}

TEST_P(RangeSearch, searches_every_dtype_as_stored) {
  const auto values = exact_vectors::make(1100, 21, 22, 0, 100);
  const auto queries = exact_vectors::make(5, 21, 23, 0, 100);
  const RangeRequest request{limit_at(values, queries, 21, GetParam(), 0.1), kPlenty};
  const RangeHits expected = oracle_hits(values, queries, 21, GetParam(), request);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::u8, DType::i8}) {
    Matrix base(dtype, 1100, 21);
    convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data()), dtype, base.data(),
                     1100 * 21);
    expect_hits(find(base.view(), queries, GetParam(), request), expected, std::string(to_string(dtype)));
  }
}

TEST_P(RangeSearch, is_exact_far_from_the_origin_where_float32_cancels) {
  const auto base = normal_vectors(1500, 64, 7, 1e4f);
  const auto queries = normal_vectors(6, 64, 8, 1e4f);
  expect_exact_hits(base, queries, 64, GetParam(), {limit_at(base, queries, 64, GetParam(), 0.01), kPlenty});
}

TEST_P(RangeSearch, is_exact_where_float32_overflows_or_goes_under) {
  for (const float scale : {1e30f, 1e18f, 1e-21f, 1e-42f}) {
    const auto base = normal_vectors(900, 12, 9, 0, scale);
    const auto queries = normal_vectors(5, 12, 10, 0, scale);
    expect_exact_hits(base, queries, 12, GetParam(),
                      {limit_at(base, queries, 12, GetParam(), 0.05), kPlenty});
  }
}

TEST(RangeSearchBound, is_needed_where_float32_cancels) {
  const auto base = normal_vectors(3000, 64, 7, 1e4f);
  const auto queries = normal_vectors(6, 64, 8, 1e4f);
  const RangeRequest request{limit_at(base, queries, 64, Metric::l2, 0.3), kPlenty};
  Settings settings;
  settings.overrides.error_factor = 0;
  const Found found = find(view_of(base, 64), queries, Metric::l2, request, settings);
  EXPECT_NE(found.hits.offsets, oracle_hits(base, queries, 64, Metric::l2, request).offsets);
}

TEST_P(RangeSearch, gives_each_pair_of_a_base_once_or_both_ways) {
  const auto base = exact_vectors::make(700, 5, 3, -3, 3);
  for (const std::int64_t first : {0, 1, 300, 690})
    for (const RangePairs pairs : {RangePairs::later, RangePairs::others}) {
      const std::int64_t count = std::min<std::int64_t>(40, 700 - first);
      const std::vector<float> queries(base.begin() + first * 5, base.begin() + (first + count) * 5);
      RangeRequest request{limit_at(base, queries, 5, GetParam(), 0.1), kPlenty};
      request.pairs = pairs;
      request.first_query = first;
      Settings settings;
      settings.overrides.query_tile = 8;
      settings.overrides.base_tile = 16;
      expect_exact_hits(base, queries, 5, GetParam(), request, settings);
      // A shard in the middle, and one with ids of its own.
      const std::vector<float> shard(base.begin() + 200 * 5, base.begin() + 400 * 5);
      std::vector<GlobalId> ids(200);
      std::iota(ids.begin(), ids.end(), 200);
      const RangeHits expected = oracle_hits(shard, queries, 5, GetParam(), request, ids);
      expect_hits(find(view_of(shard, 5), queries, GetParam(), request, settings, {200, {}}), expected,
                  "by row");
      expect_hits(find(view_of(shard, 5), queries, GetParam(), request, settings, {0, ids}), expected,
                  "by id");
    }
}

TEST_P(RangeSearch, says_when_there_are_more_hits_than_asked_for) {
  const auto base = normal_vectors(2000, 8, 1);
  const auto queries = normal_vectors(30, 8, 2);
  RangeRequest request{limit_at(base, queries, 8, GetParam(), 0.5), kPlenty};
  const std::int64_t count = oracle_hits(base, queries, 8, GetParam(), request).count();
  request.max_hits = count;
  EXPECT_TRUE(find(view_of(base, 8), queries, GetParam(), request).complete);
  request.max_hits = count - 1;
  for (const int threads : {1, 3}) {
    const Found found = find(view_of(base, 8), queries, GetParam(), request, {threads, "auto", {}});
    EXPECT_FALSE(found.complete);
    EXPECT_EQ(found.hits.count(), 0);
    EXPECT_EQ(found.hits.nq(), 30);
  }
}

TEST_P(RangeSearch, needs_no_queries_and_no_rows) {
  const auto some = normal_vectors(10, 4, 26);
  EXPECT_EQ(find(view_of(some, 4), {}, GetParam(), {1, kPlenty}).hits, RangeHits{});
  const Found found = find({DType::f32, nullptr, 0, 4}, some, GetParam(), {1, kPlenty});
  EXPECT_EQ(found.hits.nq(), 10);
  EXPECT_EQ(found.hits.count(), 0);
}

TEST_P(RangeSearch, counts_its_work) {
  const auto base = normal_vectors(2000, 8, 1);
  const auto queries = normal_vectors(30, 8, 2);
  const Found found = find(view_of(base, 8), queries, GetParam(),
                           {limit_at(base, queries, 8, GetParam(), 0.01), kPlenty}, {2, "auto", {}});
  EXPECT_EQ(found.counters.queries, 30);
  EXPECT_EQ(found.counters.certified, 30);
  EXPECT_EQ(found.counters.distances, 30 * 2000);
  EXPECT_GE(found.counters.reranked, found.hits.count());
  EXPECT_LT(found.counters.reranked, 30 * 2000 / 4);
}

TEST_P(RangeSearch, refuses_queries_of_another_dimension) {
  const auto base = normal_vectors(10, 4, 1);
  const auto index = make_index("flat", "cpu", GetParam(), {});
  index->build(view_of(base, 4), {});
  RangeHits hits;
  test::expect_error(
      ErrorKind::usage,
      [&] {
        index->search_range(queries_of(base, 5), {1, kPlenty}, hits);
      },
      "queries.d = 5", "base.d = 4");
}

INSTANTIATE_TEST_SUITE_P(Metrics, RangeSearch, testing::ValuesIn(kMetrics),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

}  // namespace
}  // namespace mpishards::kernels

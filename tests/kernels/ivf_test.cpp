#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.hpp"
#include "ivf_support.hpp"
#include "kernels/index.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

class Ivf : public testing::TestWithParam<Metric> {
 protected:
  /// Small integers: many ties, and sums that any order of adding leaves exact.
  IvfCase exact_case(std::int64_t nb = 2500, std::int64_t nq = 41, std::int64_t n_lists = 23,
                     std::int64_t nprobe = 5, std::int64_t k = 12) const {
    return {.d = 6,
            .k = k,
            .metric = GetParam(),
            .base = exact_vectors::make(nb, 6, 1, -3, 3),
            .starts = random_starts(nb, n_lists, 2),
            .ids = {},
            .queries = exact_vectors::make(nq, 6, 3, -3, 3),
            .probes = random_probes(nq, nprobe, n_lists, 4)};
  }

  IvfCase normal_case(std::int64_t nb, std::int64_t nq, std::int64_t d, std::int64_t k, float mean = 0,
                      float deviation = 1) const {
    return {.d = d,
            .k = k,
            .metric = GetParam(),
            .base = normal_vectors(nb, d, 5, mean, deviation),
            .starts = random_starts(nb, 17, 6),
            .ids = {},
            .queries = normal_vectors(nq, d, 7, mean, deviation),
            .probes = random_probes(nq, 4, 17, 8)};
  }
};

TEST_P(Ivf, equals_the_oracle_on_random_vectors) {
  for (const std::int64_t d : {1, 3, 37, 128})
    for (const std::int64_t nb : {1, 40, 3001})
      for (const std::int64_t k : {1, 10, 100}) expect_exact_in_lists(normal_case(nb, 19, d, k));
}

TEST_P(Ivf, gives_the_same_bytes_for_any_threads_chunks_tiles_and_instructions) {
  const IvfCase what = exact_case(900, 30);
  const oracle::Answer expected = search_lists(what);
  for (const std::string& isa : isa_names())
    for (const int threads : {1, 2, 3})
      for (const std::int64_t query_tile : {1, 7, 64})
        for (const std::int64_t base_tile : {1, 17, 512})
          for (const std::int64_t chunk_queries : {1, 10, 64})
            for (const bool split_base : {false, true}) {
              IvfSettings settings{threads, isa, {}};
              settings.overrides.query_tile = query_tile;
              settings.overrides.base_tile = base_tile;
              settings.overrides.chunk_queries = chunk_queries;
              settings.overrides.split_base = split_base;
              settings.overrides.buffer_entries = 24;
              expect_answer(search_ivf(what, view_of(what.base, what.d), settings), expected,
                            to_string(settings));
            }
}

TEST_P(Ivf, looks_into_no_other_list) {
  IvfCase what = exact_case();
  for (const std::int64_t nprobe : {1, 2, 23}) {
    what.probes = random_probes(what.nq(), nprobe, what.n_lists(), 9);
    expect_exact_in_lists(what);
    expect_exact_in_lists(what, {2, "auto", {}});
  }
}

TEST_P(Ivf, with_all_lists_probed_equals_flat) {
  IvfCase what = exact_case();
  what.probes = random_probes(what.nq(), what.n_lists(), what.n_lists(), 10);
  EXPECT_EQ(search_ivf(what, view_of(what.base, what.d)),
            search_flat(what.base, what.queries, what.d, what.k, what.metric));
}

TEST_P(Ivf, skips_padding_and_lists_of_other_shards_and_looks_into_a_list_once) {
  IvfCase what = exact_case();
  const oracle::Answer expected = search_lists(what);
  std::vector<std::int32_t> wider;
  for (std::int64_t q = 0; q < what.nq(); ++q) {
    const std::int32_t* const row = what.probes_view().row(q);
    wider.insert(wider.end(),
                 {-1, 23, row[0], 1'000'000, row[1], row[0], std::numeric_limits<std::int32_t>::min()});
    wider.insert(wider.end(), row + 2, row + 5);
    wider.insert(wider.end(), {row[4], std::numeric_limits<std::int32_t>::max(), -1});
  }
  what.probes = wider;
  expect_answer(search_ivf(what, view_of(what.base, what.d)), expected, "with padding");
}

TEST_P(Ivf, pads_where_no_probed_list_is_here) {
  IvfCase what = exact_case();
  std::fill_n(what.probes.begin(), 5 * 20, 77);
  std::fill_n(what.probes.begin() + 5 * 30, 5 * 3, -1);
  SearchCounters counters;
  const TopK found = search_ivf(what, view_of(what.base, what.d), {}, {}, &counters);
  expect_answer(found, search_lists(what), "half the queries");
  EXPECT_EQ(found.row(0).neighbors[0], kNoNeighbor);
  EXPECT_EQ(counters.queries, what.nq());
  std::ranges::fill(what.probes, -1);
  expect_exact_in_lists(what);
  expect_exact_in_lists(what, {2, "auto", {}});
}

TEST_P(Ivf, pads_when_k_exceeds_the_rows_of_the_probed_lists) {
  for (const std::int64_t nb : {1, 30, 700})
    for (const int threads : {1, 2}) {
      IvfCase what = exact_case(nb);
      what.k = 300;
      expect_exact_in_lists(what, {threads, "auto", {}});
    }
}

TEST_P(Ivf, takes_large_k) {
  IvfCase what = exact_case(9000, 5);
  what.k = 2000;
  expect_exact_in_lists(what, {2, "auto", {}});
}

TEST_P(Ivf, orders_equal_rows_by_id_whatever_their_list) {
  IvfCase what = exact_case();
  what.base.clear();
  for (int row = 0; row < 2500; ++row) what.base.insert(what.base.end(), {1, 2, -1, 0, 2, 2});
  what.ids.resize(2500);
  std::iota(what.ids.begin(), what.ids.end(), 10);
  std::ranges::shuffle(what.ids, std::mt19937(11));
  SearchCounters counters;
  const TopK found = search_ivf(what, view_of(what.base, what.d), {}, {}, &counters);
  expect_answer(found, search_lists(what), "all rows equal");
  EXPECT_GT(counters.widened, 0);  // no bound tells equal rows apart
}

TEST_P(Ivf, finds_rows_far_from_the_origin) {
  expect_exact_in_lists(normal_case(1500, 9, 64, 10, 1e4f));
}

TEST_P(Ivf, is_exact_where_float32_overflows_or_underflows) {
  expect_exact_in_lists(normal_case(900, 5, 12, 10, 0, 1e30f));
  expect_exact_in_lists(normal_case(900, 5, 12, 10, 0, 1e-21f));
  expect_exact_in_lists(normal_case(900, 5, 12, 10, 0, 1e-42f));
  IvfCase what = normal_case(3000, 9, 12, 10);
  for (std::size_t i = 12 * 1000; i < 12 * 1004; ++i) what.base[i] *= 1e37f;
  expect_exact_in_lists(what);
}

TEST_P(Ivf, searches_every_dtype_as_stored) {
  IvfCase what = exact_case();
  what.base = exact_vectors::make(2500, 6, 12, 0, 100);
  const oracle::Answer expected = search_lists(what);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::u8, DType::i8})
    for (const std::string& isa : isa_names()) {
      Matrix base(dtype, what.nb(), what.d);
      convert_elements(DType::f32, reinterpret_cast<const std::byte*>(what.base.data()), dtype, base.data(),
                       what.nb() * what.d);
      expect_answer(search_ivf(what, base.view(), {2, isa, {}}), expected,
                    std::string(to_string(dtype)) + isa);
    }
}

TEST_P(Ivf, shards_cut_anywhere_merge_to_the_whole_answer) {
  const IvfCase what = exact_case();
  const oracle::Answer expected = search_lists(what);
  for (const std::vector<std::int64_t>& cuts :
       {std::vector<std::int64_t>{0, 1, 2500}, {0, what.starts[9], 2500}, {0, 700, 701, 701, 1900, 2500}})
    for (const bool is_bounded : {false, true}) {
      TopK merged(what.nq(), what.k, what.metric);
      for (std::size_t s = 0; s + 1 < cuts.size(); ++s) {
        const std::int64_t begin = cuts[s];
        const std::int64_t end = cuts[s + 1];
        // The shard's lists: from the one that its first row is in to the one that its last row is in.
        const auto first = std::upper_bound(what.starts.begin(), what.starts.end(), begin) - 1;
        const auto last = std::lower_bound(what.starts.begin(), what.starts.end(), end);
        std::vector<std::int64_t> starts;
        for (auto start = first; start <= last && start != what.starts.end(); ++start)
          starts.push_back(std::clamp(*start, begin, end) - begin);
        if (begin == end) starts.clear();
        const auto index = cpu::make_ivf(what.metric, {2, "auto", 0});
        const TypedView all = view_of(what.base, 6);
        index->build({all.dtype, all.row(begin), end - begin, 6}, {begin, {}},
                     {first - what.starts.begin(), starts});
        std::vector<float> bound;
        for (std::int64_t q = 0; q < what.nq() && is_bounded; ++q) bound.push_back(merged.kth_distance(q));
        TopK part(what.nq(), what.k, what.metric);
        index->search(queries_of(what.queries, 6), what.probes_view(), bound, part);
        merge_into(merged, part);
      }
      expect_answer(merged, expected, std::to_string(cuts.size()) + (is_bounded ? " bounded" : ""));
    }
}

TEST_P(Ivf, leaves_out_what_is_beyond_the_bound_and_nothing_else) {
  const IvfCase what = exact_case();
  const oracle::Answer all = search_lists(what);
  std::vector<float> bound;
  for (std::int64_t q = 0; q < what.nq(); ++q)
    bound.push_back(all.distances[std::size_t(q * what.k + q % what.k)]);
  oracle::Answer expected = all;
  const bool smaller = smaller_is_better(what.metric);
  for (std::size_t i = 0; i < expected.distances.size(); ++i) {
    const float limit = bound[i / std::size_t(what.k)];
    if (smaller ? expected.distances[i] <= limit : expected.distances[i] >= limit) continue;
    expected.neighbors[i] = kNoNeighbor;
    expected.distances[i] = worst_distance(what.metric);
  }
  for (const int threads : {1, 2, 3})
    for (const std::int64_t base_tile : {3, 500})
      for (const bool split_base : {false, true}) {
        IvfSettings settings{threads, "auto", {}};
        settings.overrides.base_tile = base_tile;
        settings.overrides.split_base = split_base;
        expect_answer(search_ivf(what, view_of(what.base, what.d), settings, bound), expected,
                      to_string(settings));
      }
}

TEST_P(Ivf, needs_no_queries_and_no_rows) {
  IvfCase what = exact_case();
  what.queries.clear();
  what.probes.clear();
  EXPECT_EQ(search_ivf(what, view_of(what.base, what.d)).nq(), 0);

  what = exact_case();
  const auto index = cpu::make_ivf(what.metric, {2, "auto", 0});
  const std::vector<std::int64_t> empty_lists(4, 0);
  for (const RowLists& lists : {RowLists{}, RowLists{3, empty_lists}}) {
    index->build({DType::f32, nullptr, 0, 6}, {}, lists);
    TopK out(what.nq(), what.k, what.metric);
    index->search(queries_of(what.queries, 6), what.probes_view(), {}, out);
    EXPECT_EQ(out, TopK(what.nq(), what.k, what.metric));
  }
}

TEST_P(Ivf, may_be_built_and_searched_again) {
  const auto index = cpu::make_ivf(GetParam(), {2, "auto", 0});
  for (const std::int64_t nb : {800, 2500, 30})
    for (const std::int64_t nq : {3, 90, 1}) {
      const IvfCase what = exact_case(nb, nq, 11, 3);
      index->build(view_of(what.base, what.d), {}, {0, what.starts});
      TopK out(what.nq(), what.k, what.metric);
      index->search(queries_of(what.queries, what.d), what.probes_view(), {}, out);
      expect_answer(out, search_lists(what),
                    std::to_string(nb) + " rows, " + std::to_string(nq) + " queries");
    }
}

TEST_P(Ivf, counts_what_it_did) {
  const IvfCase what = exact_case();
  std::int64_t pairs = 0;
  for (const std::int32_t list : what.probes)
    pairs += what.starts[std::size_t(list) + 1] - what.starts[std::size_t(list)];
  for (const bool split_base : {false, true}) {
    IvfSettings settings{3, "auto", {}};
    settings.overrides.split_base = split_base;
    SearchCounters counters;
    search_ivf(what, view_of(what.base, what.d), settings, {}, &counters);
    EXPECT_EQ(counters.queries, what.nq());
    EXPECT_EQ(counters.distances, pairs);
    EXPECT_EQ(counters.certified + counters.widened, what.nq());
    EXPECT_GE(counters.candidates, counters.reranked);
    EXPECT_GT(counters.reranked, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Metrics, Ivf, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(IvfCertificate, with_too_small_an_error_bound_is_wrong) {
  // Rows whose float32 scores order them the wrong way round: only the error bound keeps the better ones.
  IvfCase what{.d = 512,
               .k = 1,
               .metric = Metric::l2,
               .base = normal_vectors(4000, 512, 13, 1e3f, 1e-2f),
               .starts = random_starts(4000, 9, 14),
               .ids = {},
               .queries = normal_vectors(40, 512, 15, 1e3f, 1e-2f),
               .probes = random_probes(40, 4, 9, 16)};
  expect_exact_in_lists(what);
  IvfSettings lying;
  lying.overrides.error_factor = 1e-4;
  const TopK wrong = search_ivf(what, view_of(what.base, what.d), lying);
  const oracle::Answer right = search_lists(what);
  EXPECT_FALSE(std::equal(right.neighbors.begin(), right.neighbors.end(), wrong.neighbors()));
}

TEST(IvfCalls, wrong_shapes_are_internal_errors) {
  const auto base = normal_vectors(10, 4, 17);
  const auto index = make_index("ivf", "cpu", Metric::l2, {1, "auto", 0});
  const auto build = [&](std::vector<std::int64_t> starts, std::int64_t first = 0) {
    index->build(view_of(base, 4), {}, {first, starts});
  };
  test::expect_error(
      ErrorKind::internal, [&] { index->build(view_of(base, 4), {}); }, "without lists");
  test::expect_error(
      ErrorKind::internal,
      [&] {
        build({0, 9});
      },
      "end at row 9");
  test::expect_error(
      ErrorKind::internal,
      [&] {
        build({1, 10});
      },
      "begin at row 1");
  test::expect_error(
      ErrorKind::internal,
      [&] {
        build({0, 7, 5, 10});
      },
      "ascend");
  test::expect_error(
      ErrorKind::internal,
      [&] {
        build({0, 10}, -1);
      },
      "number -1");

  const std::vector<std::int64_t> starts = {0, 4, 10};
  index->build(view_of(base, 4), {}, {0, starts});
  TopK out(10, 3, Metric::l2);
  const std::vector<std::int32_t> probes(10, 1);
  test::expect_error(
      ErrorKind::internal, [&] { index->search(queries_of(base, 4), {}, out); }, "probes are 0 x 0");
  test::expect_error(
      ErrorKind::internal,
      [&] {
        index->search(queries_of(base, 4), {probes.data(), 5, 2}, {}, out);
      },
      "probes are 5 x 2");
  const auto flat = make_index("flat", "cpu", Metric::l2, {1, "auto", 0});
  flat->build(view_of(base, 4), {}, {0, starts});
  test::expect_error(
      ErrorKind::internal,
      [&] {
        flat->search(queries_of(base, 4), {probes.data(), 10, 1}, {}, out);
      },
      "no lists");
  flat->search(queries_of(base, 4), {}, out);
  EXPECT_EQ(out.row(3).neighbors[0], 3);
}

TEST(IvfPlan, covers_what_the_engine_holds) {
  for (const std::string isa : {"auto", "portable"})
    for (const DType dtype : {DType::f32, DType::u8})
      for (const std::int64_t nq : {1, 40, 700})
        for (const std::int64_t k : {1, 200})
          for (const int threads : {1, 3}) {
            const std::int64_t d = 5;
            const std::int64_t nb = 9000;
            const auto values = exact_vectors::make(nb, d, 18, 0, 100);
            Matrix base(dtype, nb, d);
            convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data()), dtype,
                             base.data(), nb * d);
            const auto starts = random_starts(nb, 50, 19);
            const auto probes = random_probes(nq, 8, 50, 20);
            const auto queries = exact_vectors::make(nq, d, 21, 0, 100);
            const auto index = cpu::make_ivf(Metric::l2, {threads, isa, 0});
            index->build(base.view(), {}, {0, starts});
            TopK out(nq, k, Metric::l2);
            index->search(queries_of(queries, d), {probes.data(), nq, 8}, {}, out);
            const CpuSearchPlan plan = plan_cpu_list_search({{nb, nq, d, k, dtype}, 50, 8}, {threads, isa});
            EXPECT_LE(static_cast<std::int64_t>(index->bytes()), plan.index_bytes + plan.scratch_bytes)
                << to_string(plan);
            EXPECT_GE(static_cast<std::int64_t>(index->bytes()) * 2, plan.index_bytes + plan.scratch_bytes)
                << "the plan says far more than is used: " << to_string(plan);
          }
}

TEST(IvfPlan, takes_large_chunks_for_wide_products_and_bounds_their_buffers) {
  const SearchShape rows{1'000'000, 10'000, 96, 10, DType::f32};
  EXPECT_GE(plan_cpu_list_search({rows, 1024, 8}, {2, "auto"}).chunk_queries, 5000);
  const SearchShape large_k{1'000'000, 100'000, 96, 50'000, DType::f32};
  EXPECT_LE(plan_cpu_list_search({large_k, 1024, 8}, {16, "auto"}).scratch_bytes, std::int64_t{4} << 30);
}

TEST(IvfPlan, shares_the_lists_for_few_queries_only) {
  const SearchShape one{1'000'000, 1, 96, 10, DType::f32};
  const SearchShape many{1'000'000, 10'000, 96, 10, DType::f32};
  EXPECT_TRUE(plan_cpu_list_search({one, 1024, 8}, {4, "auto"}).split_base);
  EXPECT_FALSE(plan_cpu_list_search({one, 1024, 8}, {1, "auto"}).split_base);
  EXPECT_FALSE(plan_cpu_list_search({many, 1024, 8}, {4, "auto"}).split_base);
}

}  // namespace
}  // namespace mpishards::kernels

#include "kernels/cpu/row_plane.hpp"
#include "kernels/cpu/plane_queries.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "flat_support.hpp"
#include "support/exact_vectors.hpp"

namespace mpishards::kernels::cpu {
namespace {

constexpr PlaneType kTypes[] = {PlaneType::bf16, PlaneType::s8};

const Isa* plane_isa() {
  for (const Isa& isa : isa_registry())
    if (isa.plane != nullptr && isa.is_supported()) return &isa;
  return nullptr;
}

/// The block that a place lies in.
const PlaneBlock& block_of(const RowPlane& plane, std::int64_t place) {
  return *std::ranges::find_if(plane.blocks(),
                               [place](const PlaneBlock& block) { return place < block.end; });
}

/// Keeps every score of a screen.
struct AllScores final : CandidateSink {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::vector<float> scores;
  void add(std::int64_t query, std::int64_t row, float score) override {
    scores[static_cast<std::size_t>(query * rows + first_row + row)] = score;
  }
};

struct Checked {
  bool is_used = false;
  bool is_exact = false;   // bytes as they are
  double worst_share = 0;  // largest error as a share of the bound
};

/// Screens everything and holds each score against its bound.
Checked check_bound(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d,
                    Metric metric, std::optional<PlaneType> type) {
  const Isa& isa = *plane_isa();
  RowPlane plane;
  plane.build(view_of(base, d), metric, type, RowCells(), isa, 2);
  Checked checked;
  if (plane.is_empty()) return checked;
  checked.is_exact = plane.format().is_exact;
  const MatrixView<const float> query_rows = queries_of(queries, d);
  PlaneQueries packed;
  packed.reserve(query_rows.rows, d, 0, isa);
  if (!packed.begin(plane, metric, isa, query_rows, 1)) return checked;
  checked.is_used = true;
  std::vector<float> thresholds(static_cast<std::size_t>(padded_queries(query_rows.rows)),
                                std::numeric_limits<float>::infinity());
  std::fill_n(thresholds.begin(), query_rows.rows, -std::numeric_limits<float>::infinity());
  AllScores all;
  all.rows = plane.rows();
  all.scores.assign(static_cast<std::size_t>(query_rows.rows * plane.rows()), std::nanf(""));
  for (const PlaneBlock& block : plane.blocks()) {
    all.first_row = block.begin;
    packed.screen(plane, block, block.begin, block.end, {0, query_rows.rows}, thresholds.data(), all);
  }
  for (std::int64_t q = 0; q < query_rows.rows; ++q)
    for (std::int64_t place = 0; place < plane.rows(); ++place) {
      const std::int64_t row = plane.row_at(place);
      const long double exact =
          exact_score(query_rows.row(q), base.data() + row * d, d, metric) - packed.offset(q);
      const double bound = packed.error(q, block_of(plane, place));
      const float score = all.scores[static_cast<std::size_t>(q * plane.rows() + place)];
      const auto error = static_cast<double>(std::abs(exact - static_cast<long double>(score)));
      EXPECT_FALSE(std::isnan(score)) << "query " << q << " row " << row << " was not reported";
      checked.worst_share =
          std::max(checked.worst_share, bound > 0 ? error / bound : (error > 0 ? 2.0 : 0.0));
    }
  return checked;
}

class PlaneBound : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  }
  void expect_holds(const std::vector<float>& base, const std::vector<float>& queries, std::int64_t d) {
    for (const PlaneType type : kTypes) {
      const Checked checked = check_bound(base, queries, d, GetParam(), type);
      EXPECT_TRUE(checked.is_used) << "type " << int(type) << " d " << d;
      EXPECT_LE(checked.worst_share, 1.0) << "type " << int(type) << " d " << d;
    }
  }
};

TEST_P(PlaneBound, holds_on_random_vectors) {
  for (const std::int64_t d : {1, 2, 7, 31, 32, 33, 64, 65, 333, 2048})
    for (const std::int64_t nq : {1, 16, 17, 40})
      expect_holds(normal_vectors(75, d, 1), normal_vectors(nq, d, 2), d);
}

TEST_P(PlaneBound, holds_in_every_block) {
  expect_holds(normal_vectors(2 * RowPlane::kBlockRows + 100, 5, 3), normal_vectors(33, 5, 4), 5);
}

TEST_P(PlaneBound, holds_where_all_terms_are_positive) {
  for (const std::int64_t d : {3, 100, 5000})
    for (const float range : {0.5f, 4.0f, 12.0f})
      expect_holds(positive_vectors(40, d, 3, range), positive_vectors(8, d, 4, range), d);
}

TEST_P(PlaneBound, holds_far_from_the_origin) {
  expect_holds(normal_vectors(50, 128, 5, 1e4f), normal_vectors(8, 128, 6, 1e4f), 128);
  expect_holds(normal_vectors(50, 128, 5, 1e7f), normal_vectors(8, 128, 6, -1e7f), 128);
}

TEST_P(PlaneBound, holds_where_values_and_products_underflow) {
  expect_holds(normal_vectors(50, 100, 7, 0, 1e-22f), normal_vectors(8, 100, 8, 0, 1e-22f), 100);
  expect_holds(normal_vectors(50, 100, 7, 0, 1e-40f), normal_vectors(8, 100, 8, 0, 1.0f), 100);
  expect_holds(normal_vectors(50, 100, 7, 0, 1.0f), normal_vectors(8, 100, 8, 0, 1e-44f), 100);
}

TEST_P(PlaneBound, holds_among_zero_and_equal_vectors) {
  const std::vector<float> zeros(50 * 9, 0.0f);
  expect_holds(zeros, normal_vectors(4, 9, 9), 9);
  expect_holds(normal_vectors(50, 9, 9), zeros, 9);
  expect_holds(std::vector<float>(50 * 9, 0.3f), std::vector<float>(4 * 9, 0.3f), 9);
}

TEST_P(PlaneBound, holds_where_sums_of_bytes_would_not_fit) {
  constexpr std::int64_t kLong = 140'000;  // 127^2 times that is more than 2^31
  std::vector<float> base(4 * kLong, 0.7f);
  std::fill(base.begin() + 2 * kLong, base.end(), -0.7f);
  const std::vector<float> query(kLong, 0.7f);
  for (const PlaneType type : kTypes)
    EXPECT_LE(check_bound(base, query, kLong, GetParam(), type).worst_share, 1.0) << int(type);
}

TEST_P(PlaneBound, claims_nothing_where_float32_overflows) {
  const auto base = normal_vectors(20, 16, 9, 0, 1e30f);
  const auto queries = normal_vectors(5, 16, 10, 0, 1e30f);
  if (GetParam() == Metric::cosine) return expect_holds(base, queries, 16);  // rows have length one
  for (const PlaneType type : kTypes) EXPECT_FALSE(check_bound(base, queries, 16, GetParam(), type).is_used);
}

TEST_P(PlaneBound, of_8_bit_integers_is_a_rounding) {
  if (GetParam() == Metric::cosine) GTEST_SKIP() << "has no integer scores";
  for (const auto& [low, high] : {std::pair{0, 255}, std::pair{-128, 127}})
    for (const std::int64_t d : {1, 64, 100, 784, 8000}) {
      const auto base = exact_vectors::make(100, d, 1, low, high);
      const Checked checked = check_bound(base, exact_vectors::make(35, d, 2, low, high), d, GetParam(), {});
      EXPECT_TRUE(checked.is_used);
      EXPECT_TRUE(checked.is_exact);
      EXPECT_LE(checked.worst_share, 1.0);
    }
  // So long that sums may not fit into 32 bits.
  const auto long_rows = exact_vectors::make(5, 40000, 1, 250, 255);
  const Checked checked = check_bound(long_rows, long_rows, 40000, GetParam(), {});
  EXPECT_FALSE(checked.is_exact && checked.is_used);
  EXPECT_LE(checked.worst_share, 1.0);
  // Queries that the bytes can't hold prove nothing.
  EXPECT_FALSE(check_bound(exact_vectors::make(100, 8, 1, 0, 255), normal_vectors(3, 8, 1), 8, GetParam(), {})
                   .is_used);
}

INSTANTIATE_TEST_SUITE_P(Metrics, PlaneBound, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(PlaneBoundIsNotIdle, half_of_it_is_violated) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  // All that bfloat16 drops of the row points along the query; the rows' mean is zero.
  const float dropped = 1 + 0.499f * 0x1p-7f;
  Checked checked =
      check_bound({dropped, dropped, -dropped, -dropped}, {1, 1}, 2, Metric::ip, PlaneType::bf16);
  EXPECT_GT(checked.worst_share, 0.5);
  EXPECT_LE(checked.worst_share, 1.0);
  checked = check_bound({127, 0.499f, -127, -0.499f}, {0, 1}, 2, Metric::ip, PlaneType::s8);
  EXPECT_GT(checked.worst_share, 0.5);
  EXPECT_LE(checked.worst_share, 1.0);
}

/// Bfloat16 rounds the best row down and the second up by almost all of the bound.
TEST(PlaneBoundIsNotIdle, half_of_it_gives_a_wrong_answer) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  const float unit = 0x1p-7f;
  std::vector<float> base = {1 + 0.499f * unit, 1 + 0.499f * unit, unit / 64,  //
                             1 + 0.501f * unit, 1 + 0.501f * unit, 0};
  for (std::size_t i = 0; i < 6; ++i) base.push_back(-base[i]);
  const std::vector<float> query = {1, 1, 1};
  ASSERT_EQ(oracle::search(base, query, 3, 1, oracle::Measure::ip).neighbors[0], 0);
  Settings settings{1, std::string(plane_isa()->name), {}};
  settings.overrides.plane = PlaneType::bf16;
  EXPECT_EQ(search_flat(base, query, 3, 1, Metric::ip, settings).neighbors()[0], 0);
  settings.overrides.error_factor = 0.5;
  EXPECT_EQ(search_flat(base, query, 3, 1, Metric::ip, settings).neighbors()[0], 1);
}

TEST(PlaneOrder, keeps_spiky_rows_beside_each_other) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  constexpr std::int64_t kRows = 10 * RowPlane::kBlockRows;
  auto base = normal_vectors(kRows, 24, 1);
  float largest = 0;
  for (const float value : base) largest = std::max(largest, std::abs(value));
  for (std::size_t row = 0; row < kRows; row += 100) base[row * 24] = row % 200 == 0 ? 1000.0f : -1000.0f;
  RowPlane plane;
  plane.build(view_of(base, 24), Metric::ip, PlaneType::s8, RowCells(), *plane_isa(), 2);
  std::int64_t spiky_blocks = 0;
  std::vector<bool> is_placed(kRows, false);
  for (std::int64_t place = 0; place < kRows; ++place) {
    is_placed[static_cast<std::size_t>(plane.row_at(place))] = true;
    if (place % RowPlane::kBlockRows == 0) spiky_blocks += block_of(plane, place).scale > (largest + 2) / 127;
  }
  EXPECT_EQ(spiky_blocks, 1);
  EXPECT_TRUE(std::ranges::all_of(is_placed, [](bool placed) { return placed; }));
}

class PlaneSearch : public testing::TestWithParam<Metric> {};

TEST_P(PlaneSearch, equals_the_oracle_by_every_type) {
  if (plane_isa() == nullptr) GTEST_SKIP() << "no instructions for planes here";
  for (const PlaneType type : kTypes)
    for (const std::int64_t d : {1, 30, 129})
      for (const std::int64_t k : {1, 10, 150}) {
        Settings settings{2, std::string(plane_isa()->name), {}};
        settings.overrides.plane = type;
        expect_exact(normal_vectors(4000, d, 1), normal_vectors(40, d, 2), d, k, GetParam(), settings);
      }
}

TEST_P(PlaneSearch, seeds_thresholds_from_groups_of_a_sample) {
  for (const PlaneType type : kTypes) {
    Settings settings;
    settings.overrides.plane = type;
    settings.overrides.sample_rows = 16 * 64;
    expect_exact(normal_vectors(9000, 20, 1), normal_vectors(50, 20, 2), 20, 32, GetParam(), settings);
  }
  Settings settings;
  settings.overrides.sample_rows = 16 * 64;
  expect_exact(exact_vectors::make(9000, 20, 1, 0, 20), exact_vectors::make(50, 20, 2, 0, 20), 20, 32,
               GetParam(), settings);
}

TEST_P(PlaneSearch, is_exact_where_the_plane_proves_too_little) {
  // Distances differ far below what bfloat16 resolves: the rows themselves must be screened.
  auto base = normal_vectors(20000, 24, 5, 0, 1e-4f);
  auto queries = normal_vectors(20, 24, 6, 0, 1e-4f);
  for (std::size_t i = 0; i < base.size(); i += 24) base[i] += (i / 24) % 2 == 0 ? 100.0f : -100.0f;
  for (std::size_t i = 0; i < queries.size(); i += 24) queries[i] += 100;
  for (const PlaneType type : kTypes) {
    Settings settings;
    settings.overrides.plane = type;
    SearchCounters counters;
    const TopK found = search_typed(view_of(base, 24), queries, 10, GetParam(), settings, {}, {}, &counters);
    expect_answer(found, oracle::search(base, queries, 24, 10, measure_of(GetParam())), "far clusters");
    if (plane_isa() != nullptr && GetParam() == Metric::l2) {
      EXPECT_EQ(counters.widened, 20);
    }
    EXPECT_EQ(counters.certified + counters.widened, 20);
    // One row far off must not widen the bounds of the others.
    base[7 * 24 + 7] = 1e7f;  // not in the sample for the mean
    settings.overrides.base_tile = 512;
    SearchCounters with_spike;
    const TopK again =
        search_typed(view_of(base, 24), queries, 10, GetParam(), settings, {}, {}, &with_spike);
    expect_answer(again, oracle::search(base, queries, 24, 10, measure_of(GetParam())), "and a spike");
    EXPECT_LE(with_spike.reranked, counters.reranked * 6 / 5);
    base[7 * 24 + 7] = 0;
  }
}

TEST_P(PlaneSearch, leaves_a_plane_of_bytes_and_of_halves_where_rows_tie) {
  constexpr std::int64_t kRows = 20000;
  // All rows but the best one, which is found after the plane is left.
  std::vector<float> equal(kRows * 12, 3.0f);
  std::fill(equal.end() - 12, equal.end(), 4.0f);
  const auto queries = exact_vectors::make(5, 12, 7, 4, 200);
  const auto expected = oracle::search(equal, queries, 12, 10, measure_of(GetParam()));
  const std::vector<std::uint8_t> bytes(equal.begin(), equal.end());
  std::vector<std::uint16_t> halves(equal.size(), 0x4200);  // 3 in binary16
  std::fill(halves.end() - 12, halves.end(), 0x4400);       // 4
  for (const TypedView& base :
       {TypedView{DType::u8, reinterpret_cast<const std::byte*>(bytes.data()), kRows, 12},
        TypedView{DType::f16, reinterpret_cast<const std::byte*>(halves.data()), kRows, 12}}) {
    SearchCounters counters;
    const TopK found = search_typed(base, queries, 10, GetParam(), {1, "auto", {}}, {}, {}, &counters);
    expect_answer(found, expected, "rows that tie");
    if (plane_isa() != nullptr) {
      EXPECT_EQ(counters.widened, 5);
    }
  }
}

TEST_P(PlaneSearch, takes_queries_that_are_no_bytes_in_a_base_of_bytes) {
  expect_exact(exact_vectors::make(3000, 20, 1, 0, 255), normal_vectors(20, 20, 2, 100, 50), 20, 10,
               GetParam());
}

TEST_P(PlaneSearch, takes_a_base_whose_last_rows_are_no_bytes) {
  auto base = exact_vectors::make(3000, 20, 1, 0, 255);
  base.back() = 0.5f;
  expect_exact(base, exact_vectors::make(20, 20, 2, 0, 255), 20, 10, GetParam());
}

TEST_P(PlaneSearch, packs_once_enough_queries_have_come) {
  const auto base = normal_vectors(3000, 20, 1);
  const auto query = normal_vectors(1, 20, 2);
  const auto expected = oracle::search(base, query, 20, 10, measure_of(GetParam()));
  cpu::FlatOverrides overrides;
  overrides.queries_worth_packing = 3;
  const auto index = cpu::make_flat(GetParam(), {}, overrides);
  index->build(view_of(base, 20), {});
  std::vector<std::size_t> bytes;
  for (int search = 0; search < 4; ++search) {
    TopK out(1, 10, GetParam());
    index->search(queries_of(query, 20), {}, out);
    expect_answer(out, expected, "search " + std::to_string(search));
    bytes.push_back(index->bytes());
  }
  EXPECT_EQ(bytes[0], bytes[1]);
  if (plane_isa() != nullptr) {
    EXPECT_GT(bytes[2], bytes[1] + 3000 * 20);
  }
  EXPECT_EQ(bytes[2], bytes[3]);
  // Ranges are searched in the rows as they are stored, packed or not.
  const RangeRequest request{.limit = GetParam() == Metric::l2 ? 30.0f : 0.0f, .max_hits = 100'000};
  const auto unpacked = cpu::make_flat(GetParam(), {});
  unpacked->build(view_of(base, 20), {});
  RangeHits found;
  RangeHits wanted;
  ASSERT_TRUE(index->search_range(queries_of(query, 20), request, found));
  ASSERT_TRUE(unpacked->search_range(queries_of(query, 20), request, wanted));
  EXPECT_GT(wanted.count(), 0);
  EXPECT_EQ(found.neighbors, wanted.neighbors);
  EXPECT_EQ(found.distances, wanted.distances);
}

TEST_P(PlaneSearch, takes_other_rows_again_and_again) {
  cpu::FlatOverrides overrides;
  overrides.queries_worth_packing = 1;
  const auto index = cpu::make_flat(GetParam(), {2, "auto", 0}, overrides);
  const auto queries = exact_vectors::make(20, 12, 9, 0, 200);
  for (const std::int64_t nb : {500, 9000, 300, 9100}) {
    // Bytes and other values in turns, of few rows and of more than before.
    const auto base =
        nb % 200 == 100 ? exact_vectors::make(nb, 12, 5, 0, 200) : normal_vectors(nb, 12, 6, 100, 40);
    index->build(view_of(base, 12), {});
    TopK out(20, 10, GetParam());
    index->search(queries_of(queries, 12), {}, out);
    expect_answer(out, oracle::search(base, queries, 12, 10, measure_of(GetParam())),
                  std::to_string(nb) + " rows");
    const CpuSearchPlan plan = plan_cpu_search({9100, 20, 12, 10, DType::f32}, {.threads = 2});
    EXPECT_LE(index->bytes(), static_cast<std::size_t>(plan.index_bytes + plan.scratch_bytes)) << nb;
  }
}

TEST_P(PlaneSearch, is_exact_where_only_the_rows_of_the_sample_overflow) {
  // All blocks have a spiky row; the sample, whose mean is zero, has none, and a scale that is finer by so
  // much.
  const std::int64_t nb = 65536;
  const std::int64_t d = 64;
  const std::int64_t sampled = 64;  // each so many rows
  std::vector<float> base(static_cast<std::size_t>(nb * d));
  std::mt19937 random(3);
  for (std::int64_t row = 0; row < nb; ++row)
    for (std::int64_t i = 0; i < d; ++i) {
      const bool is_mirrored = row % (2 * sampled) == sampled;
      base[static_cast<std::size_t>(row * d + i)] =
          row % RowPlane::kBlockRows == 1 ? (i == 0 ? 12.0f : 0.0f)
          : is_mirrored                   ? -base[static_cast<std::size_t>((row - sampled) * d + i)]
                                          : (random() % 2 == 0 ? 1.5f : -1.5f);
    }
  Settings settings{2, "auto", {}};
  settings.overrides.plane = PlaneType::s8;
  for (const float deviation : {2e-5f, 5e-5f, 1e-4f})
    expect_exact(base, normal_vectors(4, d, 4, 0, deviation), d, 10, GetParam(), settings);
}

INSTANTIATE_TEST_SUITE_P(Metrics, PlaneSearch, testing::ValuesIn(kMetrics),
                         [](const auto& instance) { return std::string(to_string(instance.param)); });

TEST(PlaneMemory, is_no_more_than_planned) {
  for (const std::string& isa : isa_names())
    for (const auto& [nb, nq, d, k] : {std::tuple{20000, 500, 40, 10}, std::tuple{3000, 3, 300, 100}}) {
      const auto base = normal_vectors(nb, d, 1);
      const auto queries = normal_vectors(nq, d, 2);
      cpu::FlatOverrides overrides;
      overrides.queries_worth_packing = 1;
      const auto index = cpu::make_flat(Metric::l2, {2, isa, 0}, overrides);
      index->build(view_of(base, d), {});
      TopK out(nq, k, Metric::l2);
      index->search(queries_of(queries, d), {}, out);
      const CpuSearchPlan plan =
          plan_cpu_search({nb, nq, d, k, DType::f32}, {.threads = 2, .isa = isa, .is_packed = isa == "amx"});
      EXPECT_LE(index->bytes(), static_cast<std::size_t>(plan.index_bytes + plan.scratch_bytes))
          << isa << " d " << d;
    }
}

}  // namespace
}  // namespace mpishards::kernels::cpu

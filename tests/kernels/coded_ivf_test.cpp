#include "kernels/coded_ivf.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "core/error.hpp"
#include "ivf_support.hpp"
#include "kernels/index.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

constexpr std::int64_t kDim = 6;
constexpr std::int64_t kLists = 24;
constexpr CodecShape kShape{3, 8};

/// Codes, and the rows that they stand for. Small integers, so that every sum is exact; the centroids come in
/// pairs around the origin, which is so their centre.
struct CodedCase {
  Metric metric = Metric::l2;
  std::vector<float> centroids;
  std::shared_ptr<const Codec> codec;
  std::vector<std::byte> codes;
  IvfCase decoded;  // the same rows, by what codes are compared with

  MatrixView<const float> centroids_view() const { return {centroids.data(), kLists, kDim}; }
};

CodedCase make_case(Metric metric, std::int64_t nb, std::int64_t nq, std::int64_t nprobe, std::int64_t k) {
  CodedCase made;
  made.metric = metric;
  made.centroids = exact_vectors::make(kLists / 2, kDim, 21, -30, 30);
  const std::vector<float> half = made.centroids;
  for (const float value : half) made.centroids.push_back(-value);
  Matrix words(DType::f32, kShape.codewords(), kDim);
  std::ranges::copy(exact_vectors::make(kShape.codewords(), kDim, 22, -4, 4), words.as<float>().data);
  made.codec = make_codec(kShape, std::move(words), "auto");
  std::mt19937 random(23);
  for (std::int64_t i = 0; i < nb * made.codec->code_bytes(); ++i)
    made.codes.push_back(static_cast<std::byte>(random() % 40));  // few: many rows are alike
  made.decoded = {.d = kDim,
                  .k = k,
                  .metric = metric == Metric::l2 ? Metric::l2 : Metric::ip,
                  .base = std::vector<float>(static_cast<std::size_t>(nb * kDim)),
                  .starts = random_starts(nb, kLists, 24),
                  .ids = {},
                  .queries = exact_vectors::make(nq, kDim, 25, -30, 30),
                  .probes = random_probes(nq, nprobe, kLists, 26)};
  for (std::int64_t list = 0; list < kLists; ++list)
    for (std::int64_t row = made.decoded.starts[std::size_t(list)];
         row < made.decoded.starts[std::size_t(list) + 1]; ++row) {
      float* const values = made.decoded.base.data() + row * kDim;
      made.codec->decode(made.codes.data() + row * made.codec->code_bytes(), values);
      if (codes_differences(metric))
        for (std::int64_t i = 0; i < kDim; ++i) values[i] += made.centroids_view().row(list)[i];
    }
  return made;
}

TopK search_codes(const CodedCase& made, const EngineOptions& options = {},
                  std::span<const float> bound = {}) {
  const auto index = make_coded_ivf(made.metric, options, made.codec, made.centroids_view());
  const auto bytes = made.codec->code_bytes();
  index->build({DType::u8, made.codes.data(), std::ssize(made.codes) / bytes, bytes}, {0, made.decoded.ids},
               {0, made.decoded.starts});
  TopK out(made.decoded.nq(), made.decoded.k, made.metric);
  index->search(queries_of(made.decoded.queries, kDim), made.decoded.probes_view(), bound, out);
  return out;
}

class CodedIvf : public testing::TestWithParam<Metric> {};

TEST_P(CodedIvf, finds_the_nearest_of_what_the_codes_stand_for) {
  for (const std::int64_t nb : {1, 60, 2500})
    for (const std::int64_t k : {1, 10, 700})
      for (const std::int64_t nprobe : {std::int64_t{1}, std::int64_t{5}, kLists}) {
        const CodedCase made = make_case(GetParam(), nb, 23, nprobe, k);
        expect_answer(search_codes(made), search_lists(made.decoded), "k " + std::to_string(k));
      }
}

TEST_P(CodedIvf, names_the_smaller_id_of_equals) {
  CodedCase made = make_case(GetParam(), 900, 11, 6, 40);
  for (std::int64_t row = 0; row < 900; ++row) made.decoded.ids.push_back((900 - row) * 7);
  expect_answer(search_codes(made), search_lists(made.decoded), "ids against the order of the rows");
}

TEST_P(CodedIvf, gives_the_same_bytes_for_any_threads_instructions_and_cuts) {
  const CodedCase made = make_case(GetParam(), 1500, 30, 7, 50);
  const TopK whole = search_codes(made);
  for (const std::string& isa : isa_names())
    for (const int threads : {1, 2, 3}) EXPECT_TRUE(search_codes(made, {threads, isa, 0}) == whole) << isa;
  for (const std::int64_t cut : {1, 377, 1000, 1499}) {
    TopK merged(made.decoded.nq(), made.decoded.k, made.metric);
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, cut}, std::pair{cut, std::int64_t{1500}}}) {
      std::vector<std::int64_t> starts;
      for (const std::int64_t start : made.decoded.starts)
        starts.push_back(std::clamp(start, begin, end) - begin);
      const auto index = make_coded_ivf(made.metric, {}, made.codec, made.centroids_view());
      index->build({DType::u8, made.codes.data() + begin * 3, end - begin, 3}, {begin, {}}, {0, starts});
      TopK part(made.decoded.nq(), made.decoded.k, made.metric);
      index->search(queries_of(made.decoded.queries, kDim), made.decoded.probes_view(), {}, part);
      merge_into(merged, part);
    }
    EXPECT_TRUE(merged == whole) << "cut at " << cut;
  }
}

TEST_P(CodedIvf, leaves_out_only_what_is_beyond_the_bound) {
  const CodedCase made = make_case(GetParam(), 1500, 12, 7, 50);
  const TopK whole = search_codes(made);
  std::vector<float> bound;
  for (std::int64_t q = 0; q < whole.nq(); ++q) bound.push_back(whole.row(q).distances[9]);
  const TopK found = search_codes(made, {}, bound);
  for (std::int64_t q = 0; q < whole.nq(); ++q)
    for (std::size_t i = 0; i < 50; ++i) {
      const float distance = whole.row(q).distances[i];
      const float limit = bound[std::size_t(q)];
      const bool is_within = GetParam() == Metric::l2 ? distance <= limit : distance >= limit;
      EXPECT_EQ(found.row(q).neighbors[i], is_within ? whole.row(q).neighbors[i] : kNoNeighbor);
    }
}

TEST(CodedIvfDistances, order_rows_far_from_the_origin) {
  CodedCase made = make_case(Metric::l2, 800, 9, 8, 20);
  // 2^20 beyond integers of at most 60: float32 would not tell products of such rows apart.
  constexpr float kFar = 1 << 20;
  for (float& value : made.centroids) value += kFar;
  for (float& value : made.decoded.base) value += kFar;
  for (float& value : made.decoded.queries) value += kFar;
  expect_answer(search_codes(made), search_lists(made.decoded), "far");
}

TEST_P(CodedIvf, holds_no_more_than_is_planned) {
  const CodedCase made = make_case(GetParam(), 2500, 40, 9, 300);
  const auto index = make_coded_ivf(GetParam(), {2, "auto", 0}, made.codec, made.centroids_view());
  index->build({DType::u8, made.codes.data(), 2500, 3}, {}, {0, made.decoded.starts});
  TopK out(40, 300, GetParam());
  index->search(queries_of(made.decoded.queries, kDim), made.decoded.probes_view(), {}, out);
  const CodedSearchBytes planned = plan_coded_search(kShape, 2500, kDim, kLists, 300, 2);
  EXPECT_LE(index->bytes(), static_cast<std::size_t>(planned.index_bytes + planned.scratch_bytes));
  EXPECT_EQ(index->counters().queries, 40);
}

INSTANTIATE_TEST_SUITE_P(metrics, CodedIvf, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

TEST(CodedIvfCalls, refuses_codes_of_another_size) {
  const CodedCase made = make_case(Metric::l2, 10, 1, 1, 1);
  const auto index = make_coded_ivf(Metric::l2, {}, made.codec, made.centroids_view());
  const std::vector<std::int64_t> starts = {0, 10};
  test::expect_error(
      ErrorKind::internal,
      [&] {
        index->build({DType::u8, made.codes.data(), 5, 6}, {}, {0, starts});
      },
      "expected 3 bytes");
}

TEST(PrepareForCode, subtracts_the_centroid_of_l2_and_cosine_alone) {
  const std::vector<float> centroid = {1, 0};
  std::vector<float> row = {3, 4};
  prepare_for_code(Metric::ip, centroid.data(), row.data(), 2);
  EXPECT_EQ(row, (std::vector<float>{3, 4}));
  prepare_for_code(Metric::l2, centroid.data(), row.data(), 2);
  EXPECT_EQ(row, (std::vector<float>{2, 4}));
  row = {3, 4};
  prepare_for_code(Metric::cosine, centroid.data(), row.data(), 2);
  EXPECT_EQ(row, (std::vector<float>{static_cast<float>(0.6) - 1, static_cast<float>(0.8)}));
}

}  // namespace
}  // namespace mpishards::kernels

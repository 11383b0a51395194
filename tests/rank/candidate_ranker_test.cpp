#include "rank/candidate_ranker.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"
#include "support/oracle.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 300;
constexpr std::int64_t kDim = 5;

/// Vectors in memory, with ids that fall as row numbers rise; reading one row may fail.
class MemorySource final : public io::VectorSource {
 public:
  explicit MemorySource(std::int64_t broken_row = -1) : broken_row_(broken_row) {}
  std::int64_t rows() const override { return kRows; }
  std::int64_t cols() const override { return kDim; }
  DType dtype() const override { return DType::f32; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "memory"; }
  bool has_ids() const override { return true; }
  void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const override {
    for (std::int64_t row = begin; row < end; ++row) out[std::size_t(row - begin)] = id_of(row);
  }
  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    if (begin <= broken_row_ && broken_row_ < end) throw Error(ErrorKind::io, "row is broken");
    std::memcpy(out, values_.data() + begin * kDim, std::size_t((end - begin) * kDim) * sizeof(float));
  }
  static GlobalId id_of(std::int64_t row) { return (kRows - row) * 3; }
  const std::vector<float>& values() const { return values_; }

 private:
  std::int64_t broken_row_;
  std::string name_ = "memory";
  std::vector<float> values_ = exact_vectors::make(kRows, kDim, 31, -2, 2);  // many distances are equal
};

class CandidateRanking : public testing::TestWithParam<Metric> {};

TEST_P(CandidateRanking, orders_candidates_by_their_exact_distances_and_ids) {
  const MemorySource base;
  const oracle::Measure measure = GetParam() == Metric::l2   ? oracle::Measure::l2
                                  : GetParam() == Metric::ip ? oracle::Measure::ip
                                                             : oracle::Measure::cosine;
  constexpr std::int64_t kQueries = 40;
  constexpr std::int64_t kCandidates = 60;
  const std::vector<float> queries = exact_vectors::make(kQueries, kDim, 32, -2, 2);
  TopK candidates(kQueries, kCandidates, GetParam());
  std::mt19937 random(33);
  for (std::int64_t q = 0; q < kQueries; ++q)  // the later queries have fewer, the last ones none
    for (std::int64_t i = 0; i < kCandidates - 2 * q; ++i)
      candidates.row(q).neighbors[std::size_t(i)] = (i * 5 + q) % kRows;
  for (const std::int64_t k : {1, 7, 60})
    for (const int threads : {1, 3}) {
      const CandidateRanker ranker(base, GetParam(), "auto", threads);
      const TopK found = ranker.rank({queries.data(), kQueries, kDim}, candidates, k);
      for (std::int64_t q = 0; q < kQueries; ++q) {
        std::vector<float> rows;
        std::vector<std::int64_t> ids;
        for (const GlobalId row : std::as_const(candidates).row(q).neighbors) {
          if (row == kNoNeighbor) continue;
          rows.insert(rows.end(), base.values().begin() + row * kDim,
                      base.values().begin() + (row + 1) * kDim);
          ids.push_back(MemorySource::id_of(row));
        }
        const std::vector<float> query(queries.begin() + q * kDim, queries.begin() + (q + 1) * kDim);
        const oracle::Answer wanted = oracle::search(rows, query, kDim, k, measure, ids);
        EXPECT_TRUE(std::ranges::equal(found.row(q).neighbors, wanted.neighbors))
            << "query " << q << " k " << k;
        EXPECT_TRUE(std::ranges::equal(found.row(q).distances, wanted.distances))
            << "query " << q << " k " << k;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(metrics, CandidateRanking, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

TEST(CandidateRanker, a_row_that_can_not_be_read_fails_the_whole) {
  const MemorySource base(77);
  const std::vector<float> queries = exact_vectors::make(8, kDim, 34, -2, 2);
  TopK candidates(8, 1, Metric::l2);
  candidates.row(6).neighbors[0] = 77;
  const CandidateRanker ranker(base, Metric::l2, "auto", 2);
  test::expect_error(
      ErrorKind::io,
      [&] {
        ranker.rank({queries.data(), 8, kDim}, candidates, 1);
      },
      "row is broken");
}

}  // namespace
}  // namespace mpishards::rank

#include "app/oracle.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "answer_fixture.hpp"
#include "core/error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using test::Rows;

/// A base, queries and a result on disk, and the oracle's word on them.
class OracleOn : public testing::TestWithParam<Metric> {
 protected:
  void make(Rows base, Rows queries) {
    base_ = std::move(base);
    queries_ = std::move(queries);
    base_.write(folder_ / "base.fbin");
    queries_.write(folder_ / "queries.fbin");
  }

  OracleVerdict judge(const TopK& answer, std::int64_t block_bytes = std::int64_t{1} << 20, int threads = 2) {
    const std::string path = folder_ / "result.h5";
    test::write_result(path, answer, {{"metric", std::string(to_string(answer.metric()))}});
    const auto base = io::open_source({folder_ / "base.fbin", ""});
    const auto queries = io::open_source({folder_ / "queries.fbin", ""});
    const auto result = io::open_result(path);
    OracleTask task;
    task.base = base.get();
    task.queries = queries.get();
    task.result = result.get();
    task.metric = answer.metric();
    task.base_end = base_.rows;
    task.drop_nonfinite = drop_;
    task.block_bytes = block_bytes;
    task.threads = threads;
    return consult_oracle(task, sample_rows(answer.nq(), 0, 1));
  }

  TopK right(std::int64_t k) const {
    return test::right_answer(base_, queries_, GetParam(), k, 0, base_.rows);
  }

  test::TemporaryFolder folder_;
  Rows base_;
  Rows queries_;
  bool drop_ = false;
  static constexpr std::int64_t kDroppedRow = 17;  // the row that is not finite
};

INSTANTIATE_TEST_SUITE_P(Metrics, OracleOn, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

TEST_P(OracleOn, right_answers_trusts_them) {
  make(Rows::whole_numbers(61, 5, 1), Rows::whole_numbers(13, 5, 2));
  for (const std::int64_t k : {1, 7, 61, 80}) {
    for (const std::int64_t block_bytes : {1, 1000, 1 << 20}) {
      const OracleVerdict verdict = judge(right(k), block_bytes);
      EXPECT_TRUE(verdict.exact()) << "k " << k << ": " << verdict.first_wrong_reason;
      EXPECT_EQ(verdict.queries, 13);
      EXPECT_EQ(verdict.rounding_distances, 0);
      EXPECT_EQ(verdict.rounding_places, 0);
    }
  }
}

TEST_P(OracleOn, right_answers_to_real_numbers_trusts_them) {
  make(Rows::normal(300, 33, 3), Rows::normal(20, 33, 4));
  EXPECT_TRUE(judge(right(10)).exact());
}

TEST_P(OracleOn, a_tie_broken_by_larger_id_does_not) {
  Rows base = Rows::whole_numbers(20, 4, 5);
  std::copy_n(base.row(3), 4, base.values.begin() + 11 * 4);  // rows 3 and 11 are equal
  make(base, Rows{1, 4, {base.row(3), base.row(3) + 4}});
  TopK answer = right(20);
  const auto ids = answer.row(0).neighbors;
  std::swap(*std::ranges::find(ids, 3), *std::ranges::find(ids, 11));
  const OracleVerdict verdict = judge(answer);
  EXPECT_EQ(verdict.wrong_queries, 1);
  EXPECT_EQ(verdict.first_wrong_row, 0);
}

TEST_P(OracleOn, a_missing_neighbor_does_not) {
  make(Rows::normal(50, 8, 6), Rows::normal(4, 8, 7));
  TopK more = right(11);
  TopK answer(4, 10, GetParam());
  for (std::int64_t q = 0; q < 4; ++q)
    for (std::size_t i = 0; i < 10; ++i) {
      const std::size_t from = q == 2 && i >= 5 ? i + 1 : i;  // query 2 lacks its neighbor at place 5
      answer.row(q).neighbors[i] = more.row(q).neighbors[from];
      answer.row(q).distances[i] = more.row(q).distances[from];
    }
  const OracleVerdict verdict = judge(answer);
  EXPECT_EQ(verdict.wrong_queries, 1);
  EXPECT_EQ(verdict.first_wrong_row, 2);
  EXPECT_NE(verdict.first_wrong_reason.find("id " + std::to_string(more.row(2).neighbors[5])),
            std::string::npos)
      << verdict.first_wrong_reason;
}

TEST_P(OracleOn, a_distance_one_unit_off_does_not) {
  make(Rows::normal(50, 8, 8), Rows::normal(4, 8, 9));
  for (const float direction : {-1e30F, 1e30F}) {
    TopK answer = right(10);
    float& distance = answer.row(1).distances[4];
    distance = std::nextafter(distance, direction);
    EXPECT_EQ(judge(answer).wrong_queries, 1) << direction;
  }
}

TEST_P(OracleOn, wrong_padding_repetition_or_foreign_ids_do_not) {
  make(Rows::normal(5, 8, 10), Rows::normal(2, 8, 11));
  TopK answer = right(7);
  EXPECT_TRUE(judge(answer).exact());
  answer.row(0).distances[6] = 1.0F;
  EXPECT_EQ(judge(answer).wrong_queries, 1) << "padding has the worst distance";
  answer = right(7);
  answer.row(0).neighbors[5] = answer.row(0).neighbors[4];
  EXPECT_EQ(judge(answer).wrong_queries, 1) << "padding has no id";
  answer = right(7);
  answer.row(0).neighbors[4] = kNoNeighbor;
  EXPECT_EQ(judge(answer).wrong_queries, 1) << "five rows make five neighbors";
  answer = right(7);
  answer.row(0).neighbors[2] = 5;
  EXPECT_EQ(judge(answer).wrong_queries, 1) << "there is no row 5";
  answer = right(7);
  answer.row(0).neighbors[2] = answer.row(0).neighbors[1];
  answer.row(0).distances[2] = answer.row(0).distances[1];
  EXPECT_EQ(judge(answer).wrong_queries, 1) << "a neighbor counts once";
}

TEST_P(OracleOn, rows_that_were_dropped_skips_them) {
  Rows base = Rows::normal(30, 4, 12);
  base.values[static_cast<std::size_t>(kDroppedRow * 4)] = std::numeric_limits<float>::quiet_NaN();
  make(base, Rows::normal(3, 4, 13));
  EXPECT_THROW(judge(TopK(3, 2, GetParam())), Error);
  drop_ = true;
  // The rows before and after the dropped one.
  TopK answer(3, 5, GetParam());
  for (std::int64_t q = 0; q < 3; ++q) {
    const Rows query{1, 4, {queries_.row(q), queries_.row(q) + 4}};
    TopK before = test::right_answer(base_, query, GetParam(), 5, 0, kDroppedRow);
    const TopK after = test::right_answer(base_, query, GetParam(), 5, kDroppedRow + 1, base_.rows);
    merge_into(before, after);
    std::ranges::copy(before.row(0).neighbors, answer.row(q).neighbors.begin());
    std::ranges::copy(before.row(0).distances, answer.row(q).distances.begin());
  }
  const OracleVerdict verdict = judge(answer);
  EXPECT_TRUE(verdict.exact()) << verdict.first_wrong_reason;
}

/// Sums that lie on the boundary between two float32 may be rounded either way, and that is said.
TEST(Oracle, accepts_and_counts_a_sum_at_a_rounding_boundary) {
  const test::TemporaryFolder folder;
  // 1 + 2^-24 is half way between 1 and the next float32; its fp64 sum is exact, a tie that goes to 1.
  const Rows base{2, 2, {1.0F, 0x1p-12F, 1.5F, 0.0F}};
  const Rows queries{1, 2, {0.0F, 0.0F}};
  base.write(folder / "base.fbin");
  queries.write(folder / "queries.fbin");
  const auto base_source = io::open_source({folder / "base.fbin", ""});
  const auto query_source = io::open_source({folder / "queries.fbin", ""});
  TopK answer = test::right_answer(base, queries, Metric::l2, 2, 0, 2);
  ASSERT_EQ(answer.distances()[0], 1.0F);
  answer.distances()[0] = std::nextafter(1.0F, 2.0F);
  test::write_result(folder / "r.h5", answer, {});
  const auto result = io::open_result(folder / "r.h5");
  OracleTask task;
  task.base = base_source.get();
  task.queries = query_source.get();
  task.result = result.get();
  task.base_end = 2;
  const OracleVerdict verdict = consult_oracle(task, {0});
  EXPECT_TRUE(verdict.exact()) << verdict.first_wrong_reason;
  EXPECT_EQ(verdict.rounding_distances, 1);
  EXPECT_EQ(verdict.rounding_places, 0);
}

TEST(SampleRows, are_different_sorted_and_repeatable) {
  const std::vector<std::int64_t> rows = sample_rows(1000, 100, 7);
  EXPECT_EQ(rows.size(), 100U);
  EXPECT_TRUE(std::ranges::is_sorted(rows));
  EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), 100U);
  EXPECT_GE(rows.front(), 0);
  EXPECT_LT(rows.back(), 1000);
  EXPECT_EQ(rows, sample_rows(1000, 100, 7));
  EXPECT_NE(rows, sample_rows(1000, 100, 8));
  EXPECT_EQ(sample_rows(5, 0, 1), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(sample_rows(5, 9, 1).size(), 5U);
}

}  // namespace
}  // namespace mpishards::app

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "answer_fixture.hpp"
#include "app/oracle.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using test::Rows;

/// A sparse matrix in memory, whose rows a test may spoil.
class Matrix final : public io::CsrSource {
 public:
  struct Entry {
    GlobalId id = kNoNeighbor;
    float distance = 0;
  };

  explicit Matrix(std::vector<std::vector<Entry>> rows) : rows_(std::move(rows)) {
    shape_.rows = std::ssize(rows_);
    for (const auto& row : rows_) shape_.nnz += std::ssize(row);
  }
  const std::string& name() const override { return name_; }
  const io::CsrShape& shape() const override { return shape_; }

 private:
  std::vector<Entry> entries() const {
    std::vector<Entry> all;
    for (const auto& row : rows_) all.insert(all.end(), row.begin(), row.end());
    return all;
  }
  void load_offsets(std::int64_t first, std::span<std::int64_t> out) const override {
    std::vector<std::int64_t> offsets = {0};
    for (const auto& row : rows_) offsets.push_back(offsets.back() + std::ssize(row));
    std::copy_n(offsets.begin() + first, out.size(), out.begin());
  }
  void load_ids(std::int64_t first, std::span<GlobalId> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = entries()[static_cast<std::size_t>(first) + i].id;
  }
  void load_distances(std::int64_t first, std::span<float> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = entries()[static_cast<std::size_t>(first) + i].distance;
  }

  std::vector<std::vector<Entry>> rows_;
  io::CsrShape shape_;
  std::string name_ = "matrix";
};

using Lists = std::vector<std::vector<Matrix::Entry>>;

/// Small whole numbers, on which many distances are exactly the limit, joined with themselves or searched.
class OracleOnMatrix : public testing::TestWithParam<Metric> {
 protected:
  OracleOnMatrix() {
    base_.write(folder_ / "base.fbin");
    queries_.write(folder_ / "queries.fbin");
  }

  float eps() const { return GetParam() == Metric::l2 ? 6.0F : GetParam() == Metric::ip ? 1.0F : 0.5F; }

  Lists right(bool is_join, bool later_only) const {
    const Rows& queries = is_join ? base_ : queries_;
    const TopK all = test::right_answer(base_, queries, GetParam(), base_.rows, 0, base_.rows);
    Lists lists(static_cast<std::size_t>(queries.rows));
    for (std::int64_t q = 0; q < queries.rows; ++q)
      for (std::size_t i = 0; i < static_cast<std::size_t>(base_.rows); ++i) {
        const Matrix::Entry entry{all.row(q).neighbors[i], all.row(q).distances[i]};
        const bool is_near = GetParam() == Metric::l2 ? entry.distance <= eps() : entry.distance >= eps();
        const bool is_asked_for = !is_join || (later_only ? entry.id > q : entry.id != q);
        if (is_near && is_asked_for) lists[static_cast<std::size_t>(q)].push_back(entry);
      }
    return lists;
  }

  OracleVerdict judge(const Lists& lists, bool is_join = false, bool later_only = false) const {
    const Matrix matrix(lists);
    const auto base = io::open_source({folder_ / "base.fbin", ""});
    const auto queries = io::open_source({is_join ? folder_ / "base.fbin" : folder_ / "queries.fbin", ""});
    OracleTask task;
    task.base = base.get();
    task.queries = queries.get();
    task.matrix = MatrixInQuestion{&matrix, eps(), later_only};
    task.metric = GetParam();
    task.base_end = base_.rows;
    task.exclude_self = is_join;
    task.block_bytes = 1000;
    task.threads = 2;
    return consult_oracle(task, sample_rows(matrix.shape().rows, 0, 1));
  }

  test::TemporaryFolder folder_;
  Rows base_ = Rows::whole_numbers(70, 4, 1);
  Rows queries_ = Rows::whole_numbers(9, 4, 2);
};

INSTANTIATE_TEST_SUITE_P(Metrics, OracleOnMatrix, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

TEST_P(OracleOnMatrix, right_rows_trusts_them) {
  for (const bool is_join : {false, true})
    for (const bool later_only : {false, true}) {
      const Lists lists = right(is_join, is_join && later_only);
      const OracleVerdict verdict = judge(lists, is_join, is_join && later_only);
      EXPECT_TRUE(verdict.exact()) << verdict.first_wrong_reason;
      EXPECT_EQ(verdict.queries, std::ssize(lists));
      EXPECT_EQ(verdict.entries, Matrix(lists).shape().nnz);
      EXPECT_GT(verdict.entries, 20);
    }
}

TEST_P(OracleOnMatrix, a_missing_entry_does_not) {
  Lists lists = right(false, false);
  const GlobalId gone = lists[4].back().id;
  lists[4].pop_back();
  const OracleVerdict verdict = judge(lists);
  EXPECT_EQ(verdict.wrong_queries, 1);
  EXPECT_EQ(verdict.missing_entries, 1);
  EXPECT_EQ(verdict.surplus_entries + verdict.wrong_distances, 0);
  EXPECT_EQ(verdict.first_wrong_row, 4);
  EXPECT_NE(verdict.first_wrong_reason.find("id " + std::to_string(gone) + " with distance"),
            std::string::npos)
      << verdict.first_wrong_reason;
}

TEST_P(OracleOnMatrix, a_surplus_entry_does_not) {
  Lists repeated = right(false, false);
  repeated[2].push_back(repeated[2].back());
  EXPECT_EQ(judge(repeated).surplus_entries, 1);
  Lists foreign = right(false, false);
  foreign[2].push_back({70, foreign[2].back().distance});
  EXPECT_EQ(judge(foreign).surplus_entries, 1);
  EXPECT_EQ(judge(foreign).wrong_queries, 1);
  // A pair in the other direction, too.
  EXPECT_GT(judge(right(true, false), true, true).surplus_entries, 10);
  // What is no answer beyond the limit, though its distance is right.
  const TopK all = test::right_answer(base_, queries_, GetParam(), base_.rows, 0, base_.rows);
  Lists beyond = right(false, false);
  const std::size_t next = beyond[1].size();
  beyond[1].push_back({all.row(1).neighbors[next], all.row(1).distances[next]});
  EXPECT_EQ(judge(beyond).surplus_entries, 1);
}

TEST_P(OracleOnMatrix, a_distance_one_unit_off_does_not) {
  Lists lists = right(false, false);
  float& distance = lists[3].back().distance;
  distance = std::nextafter(distance, GetParam() == Metric::l2 ? 1e30F : -1e30F);
  const OracleVerdict verdict = judge(lists);
  EXPECT_EQ(verdict.wrong_distances, 1);
  EXPECT_EQ(verdict.missing_entries + verdict.surplus_entries, 0);
  EXPECT_FALSE(verdict.exact());
}

TEST_P(OracleOnMatrix, rows_out_of_order_do_not) {
  Lists lists = right(false, false);
  ASSERT_GT(lists[0].size(), 1U);
  std::swap(lists[0].front(), lists[0].back());
  const OracleVerdict verdict = judge(lists);
  EXPECT_EQ(verdict.wrong_queries, 1);
  EXPECT_EQ(verdict.missing_entries + verdict.surplus_entries + verdict.wrong_distances, 0);
}

}  // namespace
}  // namespace mpishards::app

#include "rank/stored_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{16} << 20;

/// float32 rows whose first value is their number; notes what is read.
class NumberedRows final : public io::VectorSource {
 public:
  static constexpr std::int64_t kCols = 1024;
  static constexpr std::int64_t kRowsOfPiece = kPieceBytes / (kCols * 4);

  std::int64_t rows() const override { return 10 * kRowsOfPiece; }
  std::int64_t cols() const override { return kCols; }
  DType dtype() const override { return DType::f32; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "test"; }
  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    if (begin <= unreadable && unreadable < end) throw Error(ErrorKind::io, "row is gone");
    auto* const values = reinterpret_cast<float*>(out);
    std::fill_n(values, (end - begin) * kCols, 1.0F);
    for (std::int64_t row = begin; row < end; ++row) values[(row - begin) * kCols] = static_cast<float>(row);
    for (const std::int64_t bad : nonfinite)
      if (begin <= bad && bad < end)
        values[(bad - begin) * kCols + kCols - 1] = std::numeric_limits<float>::infinity();
    const std::lock_guard lock(mutex_);
    reads_.push_back({begin, end});
  }
  std::vector<io::Range> reads() const {
    std::vector<io::Range> sorted = reads_;
    std::ranges::sort(sorted, {}, &io::Range::begin);
    return sorted;
  }

  std::int64_t unreadable = -1;
  std::vector<std::int64_t> nonfinite;

 private:
  std::string name_ = "numbered";
  mutable std::mutex mutex_;
  mutable std::vector<io::Range> reads_;
};

TEST(StoredRows, pieces_are_the_rows_one_after_the_other) {
  const NumberedRows source;
  const io::Range rows{5, 5 + 3 * NumberedRows::kRowsOfPiece + 1};
  const StoredRows stored = read_stored_rows(source, rows, 3);
  const std::vector<io::Range> reads = source.reads();
  ASSERT_EQ(std::ssize(reads), 3);
  EXPECT_EQ(reads.front().begin, rows.begin);
  EXPECT_EQ(reads.back().end, rows.end);
  for (std::size_t i = 1; i < reads.size(); ++i) EXPECT_EQ(reads[i].begin, reads[i - 1].end);
  ASSERT_EQ(stored.rows.rows(), rows.end - rows.begin);
  for (std::int64_t row = 0; row < stored.rows.rows(); ++row)
    ASSERT_EQ(*stored.rows.view().as<float>().row(row), static_cast<float>(rows.begin + row));
  EXPECT_EQ(stored.content_hash, hash_rows(stored.rows.view(), rows.begin));
  EXPECT_FALSE(stored.bad_row);
}

TEST(StoredRows, few_rows_are_one_piece) {
  const NumberedRows source;
  read_stored_rows(source, {0, 2 * NumberedRows::kRowsOfPiece - 1}, 8);
  EXPECT_EQ(std::ssize(source.reads()), 1);
  EXPECT_EQ(read_stored_rows(source, {3, 3}, 8).rows.rows(), 0);
}

TEST(StoredRows, hash_is_that_of_one_thread) {
  const NumberedRows source;
  const io::Range rows{100, 100 + 4 * NumberedRows::kRowsOfPiece};
  EXPECT_EQ(read_stored_rows(source, rows, 4).content_hash, read_stored_rows(source, rows, 1).content_hash);
}

TEST(StoredRows, finds_the_first_bad_row_of_all_pieces) {
  NumberedRows source;
  const io::Range rows{7, 7 + 3 * NumberedRows::kRowsOfPiece};
  source.nonfinite = {rows.end - 1, rows.begin + NumberedRows::kRowsOfPiece + 11};
  EXPECT_EQ(read_stored_rows(source, rows, 3).bad_row, NumberedRows::kRowsOfPiece + 11);
}

TEST(StoredRows, a_failure_in_any_thread_is_the_callers) {
  NumberedRows source;
  const io::Range rows{0, 3 * NumberedRows::kRowsOfPiece};
  for (const std::int64_t row : {rows.begin, rows.end - 1}) {
    source.unreadable = row;
    EXPECT_THROW(read_stored_rows(source, rows, 3), Error);
  }
}

}  // namespace
}  // namespace mpishards::rank

#include "rank/stored_rows.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "core/error.hpp"
#include "rank/row_hash.hpp"
#include "support/numbered_rows.hpp"

namespace mpishards::rank {
namespace {

using test::NumberedRows;

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

TEST(StoredRows, of_a_source_that_gains_nothing_are_one_piece) {
  NumberedRows source;
  source.is_parallel = false;
  read_stored_rows(source, {0, 3 * NumberedRows::kRowsOfPiece}, 3);
  EXPECT_EQ(std::ssize(source.reads()), 1);
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

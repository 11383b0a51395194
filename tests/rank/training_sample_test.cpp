#include "rank/training_sample.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "rank/index_spec.hpp"
#include "support/expect_error.hpp"
#include "support/numbered_rows.hpp"

namespace mpishards::rank {
namespace {

TEST(TrainingSample, draws_one_row_of_each_piece_and_any_cut_of_the_base_finds_it) {
  for (const std::int64_t count : {1, 3, 50, 99, 100}) {
    const TrainingSample sample(100, count);
    std::int64_t before = -1;
    for (std::int64_t i = 0; i < count; ++i) {
      EXPECT_GT(sample.row(i), before);
      before = sample.row(i);
      EXPECT_GE(before, 100 * i / count);
      EXPECT_LT(before, 100 * (i + 1) / count);
    }
    for (std::int64_t cut = 0; cut <= 100; ++cut) {
      EXPECT_EQ(sample.within({0, cut}).end, sample.within({cut, 100}).begin);
      for (std::int64_t i = 0; i < count; ++i)
        EXPECT_EQ(sample.row(i) < cut, i < sample.within({0, cut}).end);
    }
  }
}

TEST(TrainingSample, of_very_many_rows_stays_within_them) {
  const std::int64_t rows = std::int64_t{1} << 50;
  const TrainingSample sample(rows, (std::int64_t{1} << 31) - 1);
  EXPECT_GE(sample.row(0), 0);
  EXPECT_LT(sample.row(0), sample.row(1));
  EXPECT_LT(sample.row(sample.count() - 1), rows);
}

/// The numbers of the rows that are read, by so many threads.
std::vector<float> numbers_read(const test::NumberedRows& source, const TrainingSample& sample,
                                io::Range which, int threads) {
  const Matrix rows = read_sample(source, sample, which, Metric::l2, threads);
  std::vector<float> numbers;
  for (std::int64_t i = 0; i < rows.rows(); ++i) {
    numbers.push_back(*rows.view().as<float>().row(i));
    EXPECT_EQ(rows.view().as<float>().row(i)[source.cols() - 1], 1.0F);
  }
  return numbers;
}

TEST(ReadSample, several_threads_read_the_rows_that_were_drawn) {
  constexpr std::int64_t kPiece = test::NumberedRows::kRowsOfPiece;
  const test::NumberedRows source;
  for (const std::int64_t count : {source.rows(), 3 * kPiece}) {
    const TrainingSample sample(source.rows(), count);
    const io::Range which{5, 3 * kPiece};
    std::vector<float> wanted;
    for (std::int64_t i = which.begin; i < which.end; ++i)
      wanted.push_back(static_cast<float>(sample.row(i)));
    EXPECT_EQ(numbers_read(source, sample, which, 4), wanted);
    EXPECT_EQ(numbers_read(source, sample, which, 1), wanted);
  }
}

TEST(ReadSample, names_the_first_bad_row_of_all_threads) {
  test::NumberedRows source;
  const TrainingSample all(source.rows(), source.rows());
  source.nonfinite = {2 * test::NumberedRows::kRowsOfPiece + 9, test::NumberedRows::kRowsOfPiece + 3};
  for (const int threads : {1, 3})
    test::expect_error(
        ErrorKind::data,
        [&] {
          read_sample(source, all, {0, 3 * test::NumberedRows::kRowsOfPiece}, Metric::l2, threads);
        },
        "numbered row 4099 holds NaN");
}

TEST(ReadSample, of_no_rows_is_empty) {
  const test::NumberedRows source;
  EXPECT_EQ(read_sample(source, TrainingSample(source.rows(), 10), {4, 4}, Metric::l2, 4).rows(), 0);
}

TEST(IndexSpec, knows_its_types) {
  EXPECT_EQ(parse_index_spec("flat"), (IndexSpec{"flat", 1}));
  EXPECT_EQ(parse_index_spec("ivf1024"), (IndexSpec{"ivf", 1024}));
  EXPECT_EQ(parse_index_spec("faiss:IVF16,PQ8"), (IndexSpec{"faiss", 1, "", "IVF16,PQ8"}));
  EXPECT_FALSE(parse_index_spec("faiss:IVF16,PQ8").has_lists());
  test::expect_error(
      ErrorKind::usage, [] { parse_index_spec("faiss:"); }, "faiss:HNSW32");
  for (const char* text :
       {"", "ivf", "ivf0", "ivf-1", "ivf1x", "flat,sq8", "flat1", "ivf99999999999", "IVF8"})
    test::expect_error(
        ErrorKind::usage, [&] { parse_index_spec(text); }, "'" + std::string(text) + "'", "flat",
        "ivf<lists>");
}

TEST(IndexSpec, knows_its_codecs) {
  EXPECT_EQ(parse_index_spec("ivf8,pq16x4"), (IndexSpec{"ivf", 8, "pq16x4"}));
  EXPECT_TRUE(parse_codec("sq8").is_scalar());
  EXPECT_EQ(parse_codec("pq16"), (kernels::CodecShape{16, 8}));
  EXPECT_EQ(parse_codec("pq16x4"), (kernels::CodecShape{16, 4}));
  for (const char* text : {"", "sq4", "pq", "pq0", "pqx4", "pq-3", "pq16x8", "pq16x", "pq99999999999"})
    test::expect_error(
        ErrorKind::usage, [&] { parse_codec(text); }, "'" + std::string(text) + "'", "sq8", "pq<parts>x4");
  test::expect_error(
      ErrorKind::usage, [] { parse_index_spec("ivf8,sq4"); }, "'sq4'");
}

}  // namespace
}  // namespace mpishards::rank

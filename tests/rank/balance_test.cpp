#include "rank/balance.hpp"

#include <gtest/gtest.h>

#include "support/expect_error.hpp"

namespace mpishards::rank {
namespace {

TEST(Balance, is_a_word_or_a_weight_for_each_rank) {
  EXPECT_EQ(parse_balance("auto").kind, Balance::Kind::automatic);
  EXPECT_EQ(parse_balance("equal").kind, Balance::Kind::equal);
  EXPECT_EQ(parse_balance("measured").kind, Balance::Kind::measured);
  const Balance given = parse_balance("1,0.25,3e2");
  EXPECT_EQ(given.kind, Balance::Kind::given);
  EXPECT_EQ(given.weights, (std::vector<double>{1, 0.25, 300}));
  EXPECT_EQ(parse_balance("7").weights, (std::vector<double>{7}));
}

TEST(Balance, refuses_anything_else) {
  for (const char* text : {"", ",", "1,", ",1", "1,,2", "0", "1,-1", "nan", "1,inf", "1e999", "1e308,1e308",
                           "fast", "1 2", "+1"})
    test::expect_error(
        ErrorKind::usage, [text] { parse_balance(text); }, "auto, equal, measured");
}

TEST(Balance, gives_ranks_of_one_kind_their_median_speed) {
  // A rank of a kind that was slow for a moment gets no smaller share than the others.
  EXPECT_EQ(weights_by_kind({900, 1000, 100, 210, 190, 200}, {7, 7, 7, 3, 3, 3}),
            (std::vector<double>{1, 1, 1, 0.22, 0.22, 0.22}));
  EXPECT_EQ(weights_by_kind({10, 40}, {0, 1}), (std::vector<double>{0.25, 1}));
  EXPECT_EQ(weights_by_kind({1, 1e9}, {0, 1}), (std::vector<double>{0.01, 1}))
      << "nobody is left without rows";
}

TEST(Balance, measures_searches_of_any_rows_in_any_memory) {
  const RankKind kind;
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine})
    for (const DType dtype : {DType::f32, DType::f16, DType::f64, DType::u8, DType::i8})
      EXPECT_GT(measure_speed(kind, metric, 8, dtype, std::int64_t{1} << 30), 0);
  for (const std::int64_t memory : {1, 1 << 16, 1 << 28})
    EXPECT_GT(measure_speed(kind, Metric::l2, 100'000, DType::f32, memory), 0);
}

}  // namespace
}  // namespace mpishards::rank

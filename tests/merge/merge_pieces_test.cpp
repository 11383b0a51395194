#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "merge/merge_strategy.hpp"
#include "merge/multiway.hpp"
#include "merge/partial_answers.hpp"
#include "merge/slices.hpp"
#include "merge/wire.hpp"
#include "support/expect_error.hpp"

namespace mpishards::merge {
namespace {

using test::Case;

TEST(SliceOf, covers_all_queries_in_rank_order_with_sizes_one_apart) {
  for (const std::int64_t nq : {0LL, 1LL, 5LL, 10000LL, (1LL << 40) + 3})
    for (const int n_ranks : {1, 2, 3, 7, 64, 1024}) {
      std::int64_t next = 0;
      for (int rank = 0; rank < n_ranks; ++rank) {
        const Slice slice = slice_of(nq, rank, n_ranks);
        EXPECT_EQ(slice.begin, next);
        EXPECT_GE(slice.size(), nq / n_ranks);
        EXPECT_LE(slice.size(), (nq + n_ranks - 1) / n_ranks);
        next = slice.end;
      }
      EXPECT_EQ(next, nq);
    }
}

TEST(RecordCounts, refuses_counts_beyond_int_aloud) {
  EXPECT_THROW(RecordCounts(1LL << 34, 2), Error);
  EXPECT_NO_THROW(RecordCounts(1LL << 30, 2));
}

TEST(Wire, unpack_gives_back_what_pack_took) {
  for (const std::int64_t k : {1, 2, 3, 10}) {
    const Case c{6, k, Metric::ip, true, true, 4};
    const TopK rows = test::local_answer(c, 0, 1);
    std::vector<std::byte> records(3 * record_bytes(k));
    pack(rows, 2, 5, records.data());
    TopK back(6, k, Metric::ip);
    unpack(records.data(), 3, 1, back);
    for (std::int64_t q = 0; q < 3; ++q)
      for (std::int64_t i = 0; i < k; ++i) {
        const auto at = static_cast<std::size_t>(i);
        EXPECT_EQ(back.row(1 + q).neighbors[at], rows.row(2 + q).neighbors[at]);
        EXPECT_EQ(back.row(1 + q).distances[at], rows.row(2 + q).distances[at]);
      }
  }
}

TEST(MultiwayMerge, equals_the_sort_of_all_entries_for_any_number_of_runs) {
  for (int n = 1; n <= 17; ++n)
    for (const std::int64_t k : {1, 4, 9})
      for (const bool short_lists : {false, true}) {
        const Case c{8,    k,           n % 2 == 0 ? Metric::l2 : Metric::cosine,
                     true, short_lists, static_cast<std::uint32_t>(n)};
        std::vector<std::byte> runs(static_cast<std::size_t>(n * c.nq) * record_bytes(k));
        for (int part = 0; part < n; ++part)
          pack(test::local_answer(c, part, n), 0, c.nq,
               runs.data() + static_cast<std::size_t>(part * c.nq) * record_bytes(k));
        TopK out(c.nq, k, c.metric);
        merge_runs(runs.data(), n, c.nq, out);
        EXPECT_EQ(out, test::expected_answer(c, n, 0, c.nq)) << n << " runs, k " << k;
      }
}

TEST(MergeRegistry, names_the_known_strategies_when_one_is_unknown) {
  mpishards::test::expect_error(
      ErrorKind::usage, [] { make_merge("tree"); }, "'tree'", "auto", "all_to_all", "halving", "reduce",
      "two_level", "gather");
}

TEST(ChooseMerge, follows_ranks_and_message_size) {
  EXPECT_EQ(choose_merge(1, 10000, 10), "gather");
  EXPECT_EQ(choose_merge(4, 3, 10), "gather");
  EXPECT_EQ(choose_merge(4, 10000, 100), "all_to_all");
  EXPECT_EQ(choose_merge(32, 10000, 100), "all_to_all");
  EXPECT_EQ(choose_merge(32, 32, 1), "halving");
  EXPECT_EQ(choose_merge(64, 10000, 10), "halving");
  EXPECT_EQ(choose_merge(1024, 0, 1), "halving");
}

TEST(ChooseMerge, always_names_a_strategy) {
  for (const int n_ranks : {1, 2, 3, 8, 9, 63, 64, 4096})
    for (const std::int64_t nq : {0LL, 1LL, 100LL, 1LL << 40})
      for (const std::int64_t k : {1LL, 100000LL}) EXPECT_NO_THROW(make_merge(choose_merge(n_ranks, nq, k)));
}

}  // namespace
}  // namespace mpishards::merge

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "merge/merge_strategy.hpp"
#include "merge/partial_answers.hpp"
#include "merge/strategies.hpp"

namespace mpishards::merge {
namespace {

using test::Case;

std::string describe(const Case& c) {
  return "nq " + std::to_string(c.nq) + ", k " + std::to_string(c.k) + ", " +
         std::string(to_string(c.metric)) + (c.ties ? ", ties" : "") +
         (c.short_lists ? ", short lists" : "") + ", seed " + std::to_string(c.seed);
}

/// Bit for bit: operator== of float would let 0 and -0 pass.
bool same_bytes(const TopK& a, const TopK& b) {
  const auto count = static_cast<std::size_t>(a.nq() * a.k());
  return a.nq() == b.nq() && a.k() == b.k() && a.metric() == b.metric() &&
         (count == 0 || (std::memcmp(a.neighbors(), b.neighbors(), count * sizeof(GlobalId)) == 0 &&
                         std::memcmp(a.distances(), b.distances(), count * sizeof(float)) == 0));
}

class Strategies : public ::testing::TestWithParam<std::string> {
 protected:
  comm::Communicator world_ = comm::Communicator::world();

  TopK merged(const Case& c) {
    return make_merge(GetParam())->merge(test::local_answer(c, world_.rank(), world_.size()), world_);
  }
  TopK expected(const Case& c) const {
    const Slice mine = slice_of(c.nq, world_.rank(), world_.size());
    return test::expected_answer(c, world_.size(), mine.begin, mine.end);
  }
};

TEST_P(Strategies, equals_the_sort_of_all_entries) {
  for (const Case& c : test::cases()) EXPECT_TRUE(same_bytes(merged(c), expected(c))) << describe(c);
}

TEST_P(Strategies, leaves_rows_of_padding_alone) {
  const Case c{9, 4, Metric::ip, false, false, 1};
  const TopK nothing(c.nq, c.k, c.metric);
  const Slice mine = slice_of(c.nq, world_.rank(), world_.size());
  const TopK result = make_merge(GetParam())->merge(nothing, world_);
  EXPECT_TRUE(same_bytes(result, TopK(mine.size(), c.k, c.metric)));
}

TEST_P(Strategies, takes_everything_from_the_one_rank_that_has_it) {
  const Case c{11, 6, Metric::l2, true, false, 3};
  for (int owner = 0; owner < world_.size(); ++owner) {
    const TopK all = test::local_answer(c, owner, world_.size());
    const TopK local = world_.rank() == owner ? all : TopK(c.nq, c.k, c.metric);
    const TopK result = make_merge(GetParam())->merge(local, world_);
    const Slice mine = slice_of(c.nq, world_.rank(), world_.size());
    for (std::int64_t q = mine.begin; q < mine.end; ++q)
      for (std::size_t i = 0; i < static_cast<std::size_t>(c.k); ++i)
        EXPECT_EQ(result.row(q - mine.begin).neighbors[i], all.row(q).neighbors[i]) << "owner " << owner;
  }
}

TEST_P(Strategies, gives_gathers_bytes_again_and_again) {
  const auto strategy = make_merge(GetParam());
  const auto gather = make_merge("gather");
  for (std::uint32_t seed = 100; seed < 140; ++seed) {
    const Case c{1 + seed % 40, 1 + seed % 17, seed % 2 == 0 ? Metric::l2 : Metric::ip,
                 seed % 3 == 0, true,          seed};
    const TopK local = test::local_answer(c, world_.rank(), world_.size());
    EXPECT_TRUE(same_bytes(strategy->merge(local, world_), gather->merge(local, world_))) << describe(c);
  }
}

TEST_P(Strategies, merges_lists_longer_than_eager_messages) {
  const Case c{700, 100, Metric::cosine, true, true, 17};
  EXPECT_TRUE(same_bytes(merged(c), expected(c)));
}

TEST_P(Strategies, works_on_a_communicator_of_its_own) {
  const comm::Communicator copy = comm::Communicator::dup(world_);
  const Case c{20, 5, Metric::l2, true, true, 5};
  const TopK result = make_merge(GetParam())->merge(test::local_answer(c, copy.rank(), copy.size()), copy);
  EXPECT_TRUE(same_bytes(result, expected(c)));
}

/// Ranks as they might lie on hosts: all on one, each on its own, in blocks, in turns, most on the last one.
std::vector<std::vector<int>> layouts(int n_ranks) {
  std::vector<std::vector<int>> all(5);
  for (int rank = 0; rank < n_ranks; ++rank) {
    all[0].push_back(0);
    all[1].push_back(rank);
    all[2].push_back(rank / 2);
    all[3].push_back(rank % std::min(n_ranks, 3));
    all[4].push_back(std::min(rank, 1));
  }
  return all;
}

TEST(TwoLevelMerge, gives_the_same_bytes_on_any_hosts) {
  const comm::Communicator world = comm::Communicator::world();
  for (const std::vector<int>& hosts : layouts(world.size())) {
    const auto strategy = make_two_level_merge(hosts);
    std::vector<Case> cases = test::cases();
    cases.push_back({700, 100, Metric::cosine, true, true, 17});  // longer than eager messages
    for (const Case& c : cases) {
      const TopK local = test::local_answer(c, world.rank(), world.size());
      const Slice mine = slice_of(c.nq, world.rank(), world.size());
      EXPECT_TRUE(same_bytes(strategy->merge(local, world),
                             test::expected_answer(c, world.size(), mine.begin, mine.end)))
          << describe(c) << ", " << testing::PrintToString(hosts);
    }
  }
}

TEST(TwoLevelMerge, refuses_hosts_that_are_not_those_of_the_ranks) {
  const comm::Communicator world = comm::Communicator::world();
  const TopK nothing(1, 1, Metric::l2);
  const auto size = static_cast<std::size_t>(world.size());
  EXPECT_THROW(make_two_level_merge(std::vector<int>(size + 1, 0))->merge(nothing, world), Error);
  EXPECT_THROW(make_two_level_merge(std::vector<int>(size, 1))->merge(nothing, world), Error);
}

std::vector<std::string> names() {
  std::vector<std::string> all = {"auto"};
  for (const MergeRow& row : merge_registry()) all.emplace_back(row.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Registry, Strategies, ::testing::ValuesIn(names()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace mpishards::merge

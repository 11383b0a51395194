#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "rank/balance.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kMemory = std::int64_t{64} << 20;

std::vector<double> weights(const Balance& balance, const RankKind& mine, const comm::Communicator& comm) {
  return shard_weights(balance, mine, Metric::l2, 16, DType::f32, kMemory, comm);
}

TEST(ShardWeights, are_none_where_shares_are_equal_or_ranks_alike) {
  const comm::Communicator world = comm::Communicator::world();
  EXPECT_TRUE(weights(parse_balance("equal"), {}, world).empty());
  EXPECT_TRUE(weights(parse_balance("auto"), {}, world).empty());
}

TEST(ShardWeights, are_those_that_are_given_or_are_refused_on_every_rank) {
  const comm::Communicator world = comm::Communicator::world();
  Balance balance{Balance::Kind::given, std::vector<double>(static_cast<std::size_t>(world.size()))};
  std::iota(balance.weights.begin(), balance.weights.end(), 1.0);
  EXPECT_EQ(weights(balance, {}, world), balance.weights);
  balance.weights.push_back(1);
  try {
    weights(balance, {}, world);
    FAIL() << "one weight too many";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find(std::to_string(world.size() + 1) + " weights"),
              std::string::npos);
  }
}

TEST(ShardWeights, are_measured_where_ranks_differ) {
  const comm::Communicator world = comm::Communicator::world();
  RankKind mine;
  if (world.rank() % 2 == 1) mine.options.isa = "portable";
  const std::vector<double> found = weights(parse_balance("auto"), mine, world);
  ASSERT_EQ(std::ssize(found), world.size() == 1 ? 0 : world.size());
  if (found.empty()) return;
  EXPECT_EQ(*std::ranges::max_element(found), 1);
  for (std::size_t r = 2; r < found.size(); ++r) EXPECT_EQ(found[r], found[r - 2]) << "ranks of one kind";
  double sum = 0;
  for (const double weight : found) {
    EXPECT_GE(weight, 0.01);
    sum += weight;
  }
  EXPECT_EQ(world.max(sum), sum) << "the same on every rank";
  EXPECT_EQ(std::ssize(weights(parse_balance("measured"), {}, world)), world.size());
}

}  // namespace
}  // namespace mpishards::rank

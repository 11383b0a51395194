#include "rank/distribute.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "rank/router.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kDimension = 3;

/// Row i holds i, i + 0.25, i + 0.5.
Matrix numbered_batch(std::int64_t nq) {
  Matrix batch(DType::f32, nq, kDimension);
  for (std::int64_t q = 0; q < nq; ++q)
    for (std::int64_t i = 0; i < kDimension; ++i)
      batch.as<float>().row(q)[i] = static_cast<float>(q) + 0.25F * static_cast<float>(i);
  return batch;
}

TEST(Distribute, gives_the_whole_batch_to_every_rank) {
  const auto comm = comm::Communicator::world();
  for (const std::int64_t nq : {0, 1, 5, 1000}) {
    Routing routing;
    const auto router = make_router("all", {.n_ranks = comm.size(), .lists_of_rank = {}});
    Matrix batch = comm.is_root() ? numbered_batch(nq) : Matrix();
    if (comm.is_root()) routing = router->route(batch.view().as<float>(), {});
    const RoutedBatch routed = distribute(comm, std::move(batch), {}, routing, kDimension);
    ASSERT_TRUE(routed.all);
    ASSERT_EQ(routed.batch_nq, nq);
    ASSERT_EQ(routed.queries.rows(), nq);
    for (std::int64_t q = 0; q < nq; ++q)
      EXPECT_EQ(routed.queries.view().as<float>().row(q)[1], static_cast<float>(q) + 0.25F);
  }
}

TEST(Distribute, gives_each_rank_the_rows_that_the_routing_names) {
  const auto comm = comm::Communicator::world();
  const std::int64_t nq = 20;
  // Rank r sees the queries whose number is a multiple of r + 1; the last rank of several sees none.
  const auto sees = [&](int rank, std::int64_t q) {
    return !(comm.size() > 1 && rank == comm.size() - 1) && q % (rank + 1) == 0;
  };
  Routing routing;
  routing.all = false;
  routing.by_rank.resize(static_cast<std::size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r)
    for (std::int64_t q = 0; q < nq; ++q)
      if (sees(r, q)) routing.by_rank[static_cast<std::size_t>(r)].push_back(q);
  const RoutedBatch routed = distribute(comm, comm.is_root() ? numbered_batch(nq) : Matrix(), {},
                                        comm.is_root() ? routing : Routing{}, kDimension);
  ASSERT_FALSE(routed.all);
  EXPECT_EQ(routed.batch_nq, nq);
  EXPECT_EQ(routed.positions, routing.by_rank[static_cast<std::size_t>(comm.rank())]);
  for (std::size_t i = 0; i < routed.positions.size(); ++i)
    EXPECT_EQ(routed.queries.view().as<float>().row(static_cast<std::int64_t>(i))[2],
              static_cast<float>(routed.positions[i]) + 0.5F);
}

}  // namespace
/// Query q looks into the lists q, q + 1 and q + 2, of which rank r holds [4 r, 4 r + 5): one is cut between
/// neighbors.
ProbeTable numbered_probes(std::int64_t nq) {
  ProbeTable probes{3, {}};
  for (std::int64_t q = 0; q < nq; ++q)
    for (std::int64_t list = q; list < q + 3; ++list) probes.lists.push_back(static_cast<std::int32_t>(list));
  return probes;
}

TEST(Distribute, probes_go_with_their_queries_to_the_ranks_that_hold_the_lists) {
  const auto comm = comm::Communicator::world();
  const std::int64_t nq = 30;
  RouterContext context{.n_ranks = comm.size(), .lists_of_rank = {}};
  for (std::int64_t r = 0; r < comm.size(); ++r) context.lists_of_rank.push_back({4 * r, 4 * r + 5});
  for (const std::string name : {"lists", "all"}) {
    Matrix batch = comm.is_root() ? numbered_batch(nq) : Matrix();
    const ProbeTable probes = comm.is_root() ? numbered_probes(nq) : ProbeTable();
    Routing routing;
    if (comm.is_root()) routing = make_router(name, context)->route(batch.view().as<float>(), probes);
    const RoutedBatch routed = distribute(comm, std::move(batch), probes, routing, kDimension);
    std::vector<std::int64_t> expected;
    for (std::int64_t q = 0; q < nq; ++q)
      if (name == "all" || (q + 2 >= 4 * comm.rank() && q < 4 * comm.rank() + 5)) expected.push_back(q);
    ASSERT_EQ(routed.all, name == "all");
    EXPECT_EQ(routed.positions, routed.all ? std::vector<std::int64_t>() : expected);
    ASSERT_EQ(routed.queries.rows(), std::ssize(expected));
    ASSERT_EQ(routed.probes.nprobe, 3);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto row = routed.probes.row(static_cast<std::int64_t>(i));
      const auto first = static_cast<std::int32_t>(expected[i]);
      EXPECT_EQ(std::vector(row.begin(), row.end()),
                (std::vector<std::int32_t>{first, first + 1, first + 2}));
    }
  }
}

TEST(Distribute, queries_that_all_ranks_must_see_are_not_picked_one_by_one) {
  const auto comm = comm::Communicator::world();
  RouterContext context{.n_ranks = comm.size(), .lists_of_rank = {}};
  ProbeTable probes{comm.size(), {}};
  for (int rank = 0; rank < comm.size(); ++rank) context.lists_of_rank.push_back({rank, rank + 1});
  for (int query = 0; query < 5; ++query)
    for (int rank = 0; rank < comm.size(); ++rank) probes.lists.push_back(rank);
  const auto router = make_router("lists", context);
  const Matrix batch = numbered_batch(5);
  const Routing all = router->route(batch.view().as<float>(), probes);
  EXPECT_TRUE(all.all);
  EXPECT_TRUE(all.by_rank.empty());
  probes.lists.back() = comm.size();  // a list of no rank: the last one need not see the last query
  const Routing most = router->route(batch.view().as<float>(), probes);
  ASSERT_FALSE(most.all);
  EXPECT_EQ(std::ssize(most.by_rank.back()), 4);
}

TEST(Distribute, the_router_by_lists_needs_lists) {
  EXPECT_THROW(make_router("lists", {}), Error);
  EXPECT_THROW(make_router("some", {}), Error);
}

}  // namespace mpishards::rank

#include "rank/distribute.hpp"

#include <gtest/gtest.h>

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
    const auto router = make_router("all");
    Matrix batch = comm.is_root() ? numbered_batch(nq) : Matrix();
    if (comm.is_root()) routing = router->route(batch.view().as<float>(), comm.size());
    const RoutedBatch routed = distribute(comm, std::move(batch), routing, kDimension);
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
  const RoutedBatch routed = distribute(comm, comm.is_root() ? numbered_batch(nq) : Matrix(),
                                        comm.is_root() ? routing : Routing{}, kDimension);
  ASSERT_FALSE(routed.all);
  EXPECT_EQ(routed.batch_nq, nq);
  EXPECT_EQ(routed.positions, routing.by_rank[static_cast<std::size_t>(comm.rank())]);
  for (std::size_t i = 0; i < routed.positions.size(); ++i)
    EXPECT_EQ(routed.queries.view().as<float>().row(static_cast<std::int64_t>(i))[2],
              static_cast<float>(routed.positions[i]) + 0.5F);
}

}  // namespace
}  // namespace mpishards::rank

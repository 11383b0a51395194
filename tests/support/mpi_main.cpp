#include <gtest/gtest.h>

#include <cstdlib>

#include "comm/communicator.hpp"
#include "comm/environment.hpp"

/// main of every _mpi_test: a failure on one rank fails the test on all, and only rank 0 prints the listing.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const mpishards::comm::Environment environment(argc, argv);
  const auto world = mpishards::comm::Communicator::world();
  if (!world.is_root()) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  const int mine = RUN_ALL_TESTS();
  return static_cast<int>(world.max(static_cast<std::int64_t>(mine)));
}

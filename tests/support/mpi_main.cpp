#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "comm/communicator.hpp"
#include "comm/environment.hpp"

namespace {

/// Prints failures alone, with the rank they happened on.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed())
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                   result.summary());
  }

 private:
  int rank_;
};

}  // namespace

/// main of every _mpi_test: a failure on one rank fails the test on all; rank 0 prints the listing, the
/// others their failures.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const mpishards::comm::Environment environment(argc, argv);
  const auto world = mpishards::comm::Communicator::world();
  if (!world.is_root()) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(world.rank()));
  }
  const int mine = RUN_ALL_TESTS();
  return static_cast<int>(world.max(static_cast<std::int64_t>(mine)));
}

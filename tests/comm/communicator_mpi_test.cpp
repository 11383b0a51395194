#include "comm/communicator.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "comm/environment.hpp"
#include "comm/op.hpp"
#include "core/error.hpp"

namespace mpishards::comm {
namespace {

class Comm : public ::testing::Test {
 protected:
  Communicator world_ = Communicator::world();
  int rank() const { return world_.rank(); }
  int size() const { return world_.size(); }
};

TEST_F(Comm, knows_its_rank_and_size) {
  int rank_of_mpi = -1;
  int size_of_mpi = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_of_mpi);
  MPI_Comm_size(MPI_COMM_WORLD, &size_of_mpi);
  EXPECT_EQ(rank(), rank_of_mpi);
  EXPECT_EQ(size(), size_of_mpi);
  EXPECT_EQ(world_.is_root(), rank_of_mpi == 0);
  EXPECT_EQ(Communicator::self().size(), 1);
}

TEST_F(Comm, an_empty_one_is_a_single_rank) {
  const Communicator none;
  EXPECT_EQ(none.get(), MPI_COMM_NULL);
  EXPECT_EQ(none.size(), 1);
  EXPECT_TRUE(none.is_root());
}

TEST_F(Comm, moving_hands_over_the_communicator) {
  Communicator copy = Communicator::dup(world_);
  const MPI_Comm handle = copy.get();
  EXPECT_NE(handle, MPI_COMM_WORLD);
  Communicator moved = std::move(copy);
  EXPECT_EQ(moved.get(), handle);
  EXPECT_EQ(moved.sum(std::int64_t{1}), size());
}

TEST_F(Comm, all_ranks_of_this_test_share_a_host) {
  const Communicator host = world_.split_by_host();
  EXPECT_EQ(host.size(), size());
  EXPECT_EQ(host.rank(), rank());
  EXPECT_EQ(world_.host_of_each_rank(), std::vector<int>(static_cast<std::size_t>(size()), 0));
}

TEST(NumberedByAppearance, gives_equal_values_equal_numbers) {
  EXPECT_EQ(numbered_by_appearance({}), std::vector<int>());
  EXPECT_EQ(numbered_by_appearance(std::vector<std::int64_t>{0, 1, 0, 3, 1}), (std::vector{0, 1, 0, 2, 1}));
}

TEST_F(Comm, failed_calls_throw_on_every_kind_of_communicator) {
  const Communicator copy = Communicator::dup(world_);
  const Communicator host = world_.split_by_host();
  const Communicator self = Communicator::self();
  for (const Communicator* comm : std::initializer_list<const Communicator*>{&world_, &copy, &host, &self}) {
    std::int64_t value = 0;
    try {
      comm->broadcast(value, comm->size());  // there is no such root
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::mpi);
      EXPECT_NE(std::string(error.what()).find("MPI_Bcast failed: MPI_ERR_ROOT"), std::string::npos)
          << error.what();
    }
  }
}

TEST_F(Comm, broadcasts_bytes_and_texts_of_any_length_from_any_root) {
  for (int root = 0; root < size(); ++root)
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{300000}}) {
      const std::string sent(length, static_cast<char>('a' + root));
      std::string text = rank() == root ? sent : "something else";
      world_.broadcast_text(text, root);
      EXPECT_EQ(text, sent);
    }
}

TEST_F(Comm, reduces_sums_and_extremes) {
  const std::int64_t n = size();
  const std::int64_t big = std::int64_t{1} << 40;
  EXPECT_EQ(world_.sum(big + rank()), n * big + n * (n - 1) / 2);
  EXPECT_EQ(world_.max(static_cast<std::int64_t>(-rank())), 0);
  EXPECT_EQ(world_.max(static_cast<double>(rank())), static_cast<double>(n - 1));
  EXPECT_EQ(world_.min(static_cast<double>(rank()) + 2), 2.0);
  EXPECT_EQ(world_.sum(0.5), 0.5 * static_cast<double>(n));
}

TEST_F(Comm, sum_wrapping_wraps) {
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t value = rank() == 0 ? most : 1;
  EXPECT_EQ(world_.sum_wrapping(value), most + static_cast<std::uint64_t>(size() - 1));
}

TEST_F(Comm, all_gather_is_in_rank_order) {
  std::vector<std::int64_t> expected(static_cast<std::size_t>(size()));
  std::iota(expected.begin(), expected.end(), 100);
  EXPECT_EQ(world_.all_gather(static_cast<std::int64_t>(100 + rank())), expected);
  const std::vector<double> halves = world_.all_gather(0.5 * rank());
  for (std::size_t r = 0; r < halves.size(); ++r) EXPECT_EQ(halves[r], 0.5 * static_cast<double>(r));
}

TEST_F(Comm, gather_texts_keeps_empty_ones) {
  for (int root = 0; root < size(); ++root) {
    const auto text_of = [](int r) {
      return std::string(static_cast<std::size_t>(r), static_cast<char>('a' + r));
    };
    const std::vector<std::string> texts = world_.gather_texts(text_of(rank()), root);
    if (rank() != root) {
      EXPECT_TRUE(texts.empty());
      continue;
    }
    ASSERT_EQ(texts.size(), static_cast<std::size_t>(size()));
    for (int r = 0; r < size(); ++r) EXPECT_EQ(texts[static_cast<std::size_t>(r)], text_of(r));
  }
}

TEST_F(Comm, all_gather_floats_joins_unequal_parts) {
  std::vector<std::int64_t> counts;
  std::vector<float> expected;
  for (int r = 0; r < size(); ++r) {
    counts.push_back(r % 3);
    expected.insert(expected.end(), static_cast<std::size_t>(r % 3), static_cast<float>(r));
  }
  const std::vector<float> mine(static_cast<std::size_t>(rank() % 3), static_cast<float>(rank()));
  std::vector<float> all(expected.size(), -1.0f);
  world_.all_gather_floats(mine, counts, all);
  EXPECT_EQ(all, expected);
  std::vector<float> short_by_one(expected.size() + 1);
  EXPECT_THROW(world_.all_gather_floats(mine, counts, short_by_one), Error);
}

TEST_F(Comm, counts_beyond_int_are_refused_before_any_message) {
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(size()), std::int64_t{1} << 40);
  std::vector<float> none;
  EXPECT_THROW(world_.all_gather_floats({}, counts, none), Error);
}

TEST_F(Comm, datatype_is_its_bytes_and_moves) {
  Datatype type = Datatype::bytes(12);
  Datatype moved = std::move(type);
  EXPECT_EQ(type.get(), MPI_DATATYPE_NULL);
  int bytes = 0;
  check_mpi(MPI_Type_size(moved.get(), &bytes), "MPI_Type_size");
  EXPECT_EQ(bytes, 12);
  MPI_Aint lower = -1;
  MPI_Aint extent = -1;
  check_mpi(MPI_Type_get_extent(moved.get(), &lower, &extent), "MPI_Type_get_extent");
  EXPECT_EQ(extent, 12);
  EXPECT_THROW(Datatype::bytes(std::size_t{1} << 31), Error);
}

void add_bytes(void* in, void* inout, int* count, MPI_Datatype*) {
  for (int i = 0; i < *count; ++i)
    static_cast<char*>(inout)[i] =
        static_cast<char>(static_cast<char*>(inout)[i] + static_cast<const char*>(in)[i]);
}

TEST_F(Comm, a_users_operation_reduces_over_all_ranks) {
  Op op = Op::commutative(add_bytes);
  const Op moved = std::move(op);
  EXPECT_EQ(op.get(), MPI_OP_NULL);
  const char ones[3] = {1, 1, 1};
  char sums[3] = {};
  const Datatype type = Datatype::bytes(1);
  check_mpi(MPI_Allreduce(ones, sums, 3, type.get(), moved.get(), world_.get()), "MPI_Allreduce");
  for (const char sum : sums) EXPECT_EQ(sum, size());
}

TEST_F(Comm, environment_tells_level_library_and_launcher) {
  EXPECT_TRUE(Environment::thread_level() == "funneled" || Environment::thread_level() == "serialized" ||
              Environment::thread_level() == "multiple")
      << Environment::thread_level();
  EXPECT_FALSE(Environment::library_version().empty());
  EXPECT_EQ(Environment::library_version().find('\n'), std::string::npos);
  const std::string awareness = Environment::cuda_awareness();
  EXPECT_TRUE(awareness == "yes" || awareness == "no" || awareness == "unknown") << awareness;
  const Launcher launcher = detect_launcher();
  if (launcher.name != "none") {
    EXPECT_EQ(launcher.n_ranks, size());
    EXPECT_EQ(launcher.rank, rank());
  }
}

}  // namespace
}  // namespace mpishards::comm

#include "rank/unique_ids.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/expect_error.hpp"

namespace mpishards::rank {
namespace {

/// Ids without vectors.
class Ids final : public io::VectorSource {
 public:
  explicit Ids(std::vector<GlobalId> ids) : ids_(std::move(ids)) {}
  std::int64_t rows() const override { return std::ssize(ids_); }
  std::int64_t cols() const override { return 1; }
  DType dtype() const override { return DType::f32; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "none"; }
  void read_rows(std::int64_t, std::int64_t, std::byte*) const override {}
  bool has_ids() const override { return true; }
  void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const override {
    std::copy(ids_.begin() + begin, ids_.begin() + end, out.begin());
  }

 private:
  std::string name_ = "some.index";
  std::vector<GlobalId> ids_;
};

constexpr std::int64_t kRows = 600'000;
constexpr std::int64_t kLittleMemory = 1 << 20;  // for a part of the ids of a rank

std::vector<GlobalId> multiples_of_seven() {
  std::vector<GlobalId> ids(kRows);
  for (std::int64_t i = 0; i < kRows; ++i) ids[static_cast<std::size_t>(i)] = 7 * (kRows - i);
  return ids;
}

TEST(UniqueIds, passes_ids_that_are_all_different) {
  const comm::Communicator comm = comm::Communicator::world();
  require_unique_ids(Ids(multiples_of_seven()), std::int64_t{1} << 30, comm);
  require_unique_ids(Ids({3}), std::int64_t{1} << 30, comm);
}

TEST(UniqueIds, names_the_id_and_its_rows) {
  const comm::Communicator comm = comm::Communicator::world();
  std::vector<GlobalId> ids = multiples_of_seven();
  ids[599'999] = ids[17];
  test::expect_error(
      ErrorKind::data, [&] { require_unique_ids(Ids(ids), std::int64_t{1} << 30, comm); },
      "some.index row 17 and", "row 599999", std::to_string(ids[17]));
}

TEST(UniqueIds, takes_several_shares_where_memory_is_little) {
  const comm::Communicator comm = comm::Communicator::world();
  std::vector<GlobalId> ids = multiples_of_seven();
  require_unique_ids(Ids(ids), kLittleMemory, comm);
  ids[599'999] = ids[5];
  test::expect_error(
      ErrorKind::data, [&] { require_unique_ids(Ids(ids), kLittleMemory, comm); }, "row 5 and", "row 599999");
}

}  // namespace
}  // namespace mpishards::rank

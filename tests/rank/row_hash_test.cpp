#include "rank/row_hash.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace mpishards::rank {
namespace {

TypedView rows_of(const std::vector<float>& values, std::int64_t begin, std::int64_t end, std::int64_t cols) {
  return {DType::f32, reinterpret_cast<const std::byte*>(values.data() + begin * cols), end - begin, cols};
}

TEST(RowHash, is_the_same_for_any_cut_and_differs_for_any_change) {
  std::vector<float> values(40);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7);
  const std::uint64_t whole = hash_rows(rows_of(values, 0, 10, 4), 0);
  for (std::int64_t cut = 0; cut <= 10; ++cut)
    EXPECT_EQ(hash_rows(rows_of(values, 0, cut, 4), 0) + hash_rows(rows_of(values, cut, 10, 4), cut), whole);

  std::swap_ranges(values.begin(), values.begin() + 4, values.begin() + 8);  // rows 0 and 2 change places
  EXPECT_NE(hash_rows(rows_of(values, 0, 10, 4), 0), whole);
}

TEST(RowHash, by_id_is_the_same_for_any_order_of_the_rows) {
  const std::vector<float> rows = {1, 2, 3, 4, 5, 6};
  const std::vector<float> turned = {5, 6, 1, 2, 3, 4};
  const std::vector<GlobalId> ids = {7, 0, 9};
  const std::vector<GlobalId> turned_ids = {9, 7, 0};
  const std::uint64_t hash = hash_rows(rows_of(rows, 0, 3, 2), ids);
  EXPECT_EQ(hash_rows(rows_of(turned, 0, 3, 2), turned_ids), hash);
  EXPECT_NE(hash_rows(rows_of(turned, 0, 3, 2), ids), hash);
}

}  // namespace
}  // namespace mpishards::rank

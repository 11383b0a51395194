#include "core/edit_distance.hpp"

#include <gtest/gtest.h>

namespace mpishards {
namespace {

TEST(EditDistance, counts_letters_put_in_taken_out_and_replaced) {
  EXPECT_EQ(edit_distance("train", "train"), 0U);
  EXPECT_EQ(edit_distance("tain", "train"), 1U);
  EXPECT_EQ(edit_distance("trains", "train"), 1U);
  EXPECT_EQ(edit_distance("trein", "train"), 1U);
  EXPECT_EQ(edit_distance("tarin", "train"), 2U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("", "k"), 1U);
  EXPECT_EQ(edit_distance("", ""), 0U);
}

}  // namespace
}  // namespace mpishards

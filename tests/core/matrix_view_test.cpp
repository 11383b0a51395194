#include "core/matrix_view.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mpishards {
namespace {

TEST(MatrixViewTest, rows_follow_each_other) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const MatrixView<const float> view{values.data(), 3, 2};
  EXPECT_EQ(*view.row(2), 4.0f);
  const auto slice = view.slice(1, 3);
  EXPECT_EQ(slice.rows, 2);
  EXPECT_EQ(slice.row(0)[1], 3.0f);
}

TEST(TypedViewTest, counts_in_bytes_of_its_type) {
  const std::vector<std::uint16_t> values(12);
  const TypedView view{DType::bf16, reinterpret_cast<const std::byte*>(values.data()), 4, 3};
  EXPECT_EQ(view.row_bytes(), 6u);
  EXPECT_EQ(view.row(2), reinterpret_cast<const std::byte*>(values.data() + 6));
  EXPECT_EQ(view.as<std::uint16_t>().row(1), values.data() + 3);
}

TEST(TypedViewTest, offsets_beyond_2_to_the_31_do_not_wrap) {
  const TypedView view{DType::f64, nullptr, std::int64_t{1} << 34, 1000};
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.row(std::int64_t{1} << 33)),
            (std::uintptr_t{1} << 33) * 8000);
}

TEST(MatrixTest, is_aligned_and_has_room_for_its_elements) {
  for (const DType dtype : {DType::u8, DType::f16, DType::f32, DType::f64})
    for (const std::int64_t rows : {0, 1, 17}) {
      Matrix matrix(dtype, rows, 13);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(matrix.data()) % 64, 0u);
      EXPECT_EQ(matrix.bytes(), static_cast<std::size_t>(rows) * 13 * size_bytes(dtype));
      for (std::size_t i = 0; i < matrix.bytes(); ++i) matrix.data()[i] = std::byte{1};
      EXPECT_EQ(matrix.view().rows, rows);
      EXPECT_EQ(matrix.view().dtype, dtype);
    }
}

TEST(MatrixTest, shrinking_keeps_the_first_rows_in_place) {
  Matrix matrix(DType::f32, 3, 2);
  const std::byte* data = matrix.data();
  matrix.as<float>().row(0)[1] = 4.0f;
  matrix.shrink_rows(1);
  EXPECT_EQ(matrix.rows(), 1);
  EXPECT_EQ(matrix.data(), data);
  EXPECT_EQ(matrix.as<float>().row(0)[1], 4.0f);
}

TEST(MatrixTest, moving_hands_over_the_memory) {
  Matrix from(DType::u8, 5, 5);
  const std::byte* data = from.data();
  const Matrix to = std::move(from);
  EXPECT_EQ(to.data(), data);
}

}  // namespace
}  // namespace mpishards

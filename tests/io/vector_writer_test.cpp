#include "io/vector_writer.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "io/file.hpp"
#include "io/vector_source.hpp"
#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::expect_error;
using test::TemporaryFolder;

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

struct Output {
  std::string name;
  std::string dataset;
  DType dtype;
};

/// Every suffix with every dtype that it can hold.
std::vector<Output> outputs() {
  std::vector<Output> all;
  for (int i = 0; i < 8; ++i) {
    const auto dtype = static_cast<DType>(i);
    all.push_back({"a.h5", "some/group/x", dtype});
    if (dtype != DType::bf16) all.push_back({"a.npy", "", dtype});
  }
  for (const char* name :
       {"a.fbin", "a.u8bin", "a.i8bin", "a.ibin", "a.fvecs", "a.bvecs", "a.ivecs", "a.index"})
    all.push_back({name, "", implied_dtype(name, DType::i64)});
  return all;
}

void expect_round_trip(const Output& output, std::int64_t rows, std::int64_t cols, std::int64_t step) {
  const TemporaryFolder folder;
  const InputSpec spec{folder / output.name, output.dataset};
  const std::size_t row_bytes = static_cast<std::size_t>(cols) * size_bytes(output.dtype);
  const std::vector<std::byte> bytes = random_bytes(static_cast<std::size_t>(rows) * row_bytes);
  const auto writer = create_vector_file(spec, rows, cols, output.dtype, false);
  for (std::int64_t row = 0; row < rows; row += step)
    writer->append(bytes.data() + static_cast<std::size_t>(row) * row_bytes, std::min(step, rows - row));
  EXPECT_FALSE(exists(spec.path));
  writer->close();
  EXPECT_FALSE(exists(spec.path + ".partial"));

  const auto source = open_source(spec);
  ASSERT_EQ(source->rows(), rows);
  ASSERT_EQ(source->cols(), cols);
  ASSERT_EQ(to_string(source->dtype()), to_string(output.dtype)) << output.name;
  const std::int64_t begin = rows / 3;
  const Matrix read = source->read_matrix(begin, rows);
  EXPECT_EQ(
      std::memcmp(read.data(), bytes.data() + static_cast<std::size_t>(begin) * row_bytes, read.bytes()), 0)
      << output.name << " " << to_string(output.dtype);
}

TEST(VectorWriter, every_format_and_dtype_comes_back) {
  for (const Output& output : outputs()) expect_round_trip(output, 13, 5, 4);
}

TEST(VectorWriter, any_shape_comes_back) {
  std::mt19937 random(11);
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  const std::vector<Output> all = outputs();
  for (int i = 0; i < 60; ++i) {
    const Output& output =
        all[static_cast<std::size_t>(between(0, static_cast<std::int64_t>(all.size()) - 1))];
    const std::int64_t rows = between(1, 60);
    expect_round_trip(output, rows, between(1, 40), between(1, rows));
  }
}

TEST(VectorWriter, rows_wider_than_a_block_come_back) {
  expect_round_trip({"a.fvecs", "", DType::f32}, 3, 1'100'000, 2);
}

TEST(VectorWriter, keeps_an_existing_file_unless_told) {
  const TemporaryFolder folder;
  for (const char* name : {"a.h5", "a.npy"}) {
    const std::string path = folder.write(name, "precious");
    expect_error(
        ErrorKind::cannot_create,
        [&] {
          create_vector_file({path, ""}, 1, 1, DType::f32, false);
        },
        name, "exists", "--overwrite");
    { const auto abandoned = create_vector_file({path, ""}, 1, 1, DType::f32, true); }
    EXPECT_EQ(read_text(path), "precious");
    EXPECT_FALSE(exists(path + ".partial"));
    const float value = 3;
    const auto writer = create_vector_file({path, ""}, 1, 1, DType::f32, true);
    writer->append(reinterpret_cast<const std::byte*>(&value), 1);
    writer->close();
    EXPECT_EQ(open_source({path, ""})->read_matrix(0, 1).as<float>().data[0], value);
  }
}

TEST(VectorWriter, refuses_what_a_format_can_not_hold) {
  const TemporaryFolder folder;
  const auto create = [&](const char* name, DType dtype) {
    return [&folder, name, dtype] { create_vector_file({folder / name, ""}, 1, 1, dtype, false); };
  };
  expect_error(ErrorKind::usage, create("a.fvecs", DType::u8), "a.fvecs", "f32", "u8");
  expect_error(ErrorKind::usage, create("a.u8bin", DType::i8), "a.u8bin", "i8");
  expect_error(ErrorKind::usage, create("a.npy", DType::bf16), "a.npy", "bfloat16");
  expect_error(ErrorKind::usage, create("a.xyz", DType::f32), "a.xyz", ".fbin");
  expect_error(
      ErrorKind::usage,
      [&] {
        create_vector_file({folder / "a.fbin", ""}, std::int64_t{1} << 33, 1, DType::f32, false);
      },
      "8589934592");
  expect_error(
      ErrorKind::usage,
      [&] {
        create_vector_file({folder / "a.npy", "x"}, 1, 1, DType::f32, false);
      },
      "a.npy:x");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(VectorWriter, says_where_it_can_not_write) {
  for (const char* name : {"a.h5", "a.npy"})
    expect_error(
        ErrorKind::cannot_create,
        [&] {
          create_vector_file({std::string("/nonexistent/") + name, ""}, 1, 1, DType::f32, false);
        },
        "/nonexistent/", "No such file");
}

TEST(VectorWriter, close_wants_all_announced_rows) {
  const TemporaryFolder folder;
  const auto writer = create_vector_file({folder / "a.npy", ""}, 2, 1, DType::f32, false);
  const float values[3] = {};
  writer->append(reinterpret_cast<const std::byte*>(values), 1);
  expect_error(
      ErrorKind::internal, [&] { writer->close(); }, "1 of 2 rows");
  expect_error(
      ErrorKind::internal, [&] { writer->append(reinterpret_cast<const std::byte*>(values), 2); }, "3 rows");
}

}  // namespace
}  // namespace mpishards::io

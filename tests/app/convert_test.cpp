#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "app/commands/commands.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"
#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using mpishards::test::TemporaryFolder;
using testing::HasSubstr;

constexpr std::int64_t kCols = 3;

/// rows x 3 of 0, 1, 2, ... modulo 200: every value fits every vector type but i8.
std::vector<float> ramp(std::int64_t rows) {
  std::vector<float> values(static_cast<std::size_t>(rows * kCols));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 200);
  return values;
}

std::string write_f32(const std::string& path, const std::vector<float>& values) {
  const auto rows = static_cast<std::int64_t>(values.size()) / kCols;
  const auto writer = io::create_vector_file(io::parse_input_spec(path), rows, kCols, DType::f32, false);
  writer->append(reinterpret_cast<const std::byte*>(values.data()), rows);
  writer->close();
  return path;
}

std::vector<float> read_f32(const std::string& path) {
  const auto source = io::open_source(io::parse_input_spec(path));
  const Matrix matrix = source->read_matrix(0, source->rows());
  std::vector<float> values(static_cast<std::size_t>(matrix.rows() * matrix.cols()));
  EXPECT_EQ(matrix.dtype(), DType::f32);
  std::memcpy(values.data(), matrix.data(), matrix.bytes());
  return values;
}

int convert(const Arguments& arguments) {
  testing::internal::CaptureStdout();
  try {
    const int code = run_convert(arguments, comm::Communicator());
    testing::internal::GetCapturedStdout();
    return code;
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
}

template <class... Parts>
void expect_refusal(ErrorKind kind, const Arguments& arguments, const Parts&... parts) {
  test::expect_error(
      kind, [&] { convert(arguments); }, parts...);
}

TEST(Convert, through_every_format_and_back_keeps_the_values) {
  const TemporaryFolder folder;
  const std::vector<float> values = ramp(100);
  const std::string start = write_f32(folder / "start.fbin", values);
  for (const std::string between : {"a.h5:/x/y", "a.npy", "a.fvecs", "a.u8bin", "a.bvecs", "a.index"}) {
    ASSERT_EQ(convert({start, folder / between, "--overwrite"}), 0) << between;
    ASSERT_EQ(convert({folder / between, folder / "back.fbin", "--dtype", "f32", "--overwrite"}), 0)
        << between;
    EXPECT_EQ(read_f32(folder / "back.fbin"), values) << between;
  }
}

TEST(Convert, takes_a_range_of_rows) {
  const TemporaryFolder folder;
  const std::vector<float> values = ramp(50);
  const std::string in = write_f32(folder / "in.fbin", values);
  ASSERT_EQ(convert({in, folder / "out.fbin", "--rows", "10:20"}), 0);
  EXPECT_EQ(read_f32(folder / "out.fbin"), std::vector<float>(values.begin() + 30, values.begin() + 60));
  expect_refusal(ErrorKind::usage, {in, folder / "out2.fbin", "--rows", "10:51"}, "has 50 rows");
}

TEST(Convert, value_without_a_place_names_row_and_value_and_leaves_nothing) {
  const TemporaryFolder folder;
  std::vector<float> values = ramp(40);
  values[17 * kCols + 2] = 300;
  const std::string in = write_f32(folder / "in.fbin", values);
  for (const std::string dtype : {"u8", "i8"}) {
    expect_refusal(ErrorKind::data, {in, folder / "out.npy", "--rows", "10:40", "--dtype", dtype},
                   "in.fbin row 17: value 300", "column 2");
    EXPECT_FALSE(std::filesystem::exists(folder / "out.npy"));
  }
  values[17 * kCols + 2] = 0.5F;
  expect_refusal(ErrorKind::data, {write_f32(folder / "half.fbin", values), folder / "out.u8bin"},
                 "row 17: value 0.5");
}

TEST(Convert, finite_values_never_become_infinite) {
  const TemporaryFolder folder;
  std::vector<float> values = ramp(5);
  values[4] = 1e6F;
  expect_refusal(ErrorKind::data,
                 {write_f32(folder / "in.fbin", values), folder / "out.npy", "--dtype", "f16"},
                 "row 1: value 1000000");
}

/// An HDF5 file of 50 rows with ids 0, 7, 14, ...
std::string write_with_ids(const std::string& path) {
  const auto writer = io::create_vector_file(io::parse_input_spec(path), 50, kCols, DType::f32, false, true);
  writer->append(reinterpret_cast<const std::byte*>(ramp(50).data()), 50);
  for (GlobalId row = 0; row < 50; ++row) writer->append_ids(std::array{7 * row});
  writer->close();
  return path;
}

TEST(Convert, own_ids_go_along_with_their_rows) {
  const TemporaryFolder folder;
  const std::string in = write_with_ids(folder / "in.h5");
  for (const std::string out : {"out.h5:/x/vectors", "out.faiss"}) {
    ASSERT_EQ(convert({in, folder / out, "--rows", "10:13"}), 0);
    const auto source = io::open_source(io::parse_input_spec(folder / out));
    ASSERT_TRUE(source->has_ids());
    std::vector<GlobalId> ids(3);
    source->read_ids(0, 3, ids);
    EXPECT_EQ(ids, (std::vector<GlobalId>{70, 77, 84}));
  }
}

TEST(Convert, says_that_a_format_has_no_place_for_ids) {
  const TemporaryFolder folder;
  testing::internal::CaptureStderr();
  ASSERT_EQ(convert({write_with_ids(folder / "in.h5"), folder / "out.npy"}), 0);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("out.npy has no place for"));
  expect_refusal(ErrorKind::usage, {folder / "in.h5", folder / "out.h5:/x/ids"}, "/x/ids",
                 "another data set");
}

TEST(Convert, leaves_a_stopped_search_alone) {
  const TemporaryFolder folder;
  folder.write("out.h5.journal", "{}");
  expect_refusal(ErrorKind::cannot_create, {write_f32(folder / "in.fbin", ramp(5)), folder / "out.h5"},
                 "stopped search");
}

TEST(Convert, refuses_what_would_lose_a_file) {
  const TemporaryFolder folder;
  const std::string in = write_f32(folder / "in.fbin", ramp(5));
  const std::string there = write_f32(folder / "there.fbin", ramp(7));
  expect_refusal(ErrorKind::cannot_create, {in, there});
  EXPECT_EQ(read_f32(there), ramp(7));
  expect_refusal(ErrorKind::usage, {in, in, "--overwrite"});
  EXPECT_EQ(read_f32(in), ramp(5));
}

TEST(Convert, messages_name_the_file_that_was_asked_for) {
  const TemporaryFolder folder;
  expect_refusal(ErrorKind::usage,
                 {write_f32(folder / "in.fbin", ramp(5)), folder / "out.npy", "--dtype", "bf16"},
                 "out.npy: .npy has no bfloat16");
}

TEST(Convert, wrong_calls_are_usage_errors) {
  const TemporaryFolder folder;
  const std::string in = write_f32(folder / "in.fbin", ramp(5));
  expect_refusal(ErrorKind::usage, {in});
  expect_refusal(ErrorKind::usage, {in, folder / "a.npy", folder / "b.npy"});
  expect_refusal(ErrorKind::usage, {in, folder / "a.npy", "--dtype", "f31"});
  expect_refusal(ErrorKind::input_missing, {folder / "absent.fbin", folder / "a.npy"});
}

}  // namespace
}  // namespace mpishards::app

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "app/commands/commands.hpp"
#include "core/error.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"
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
  const int code = run_convert(arguments, comm::Communicator());
  testing::internal::GetCapturedStdout();
  return code;
}

Error refusal(const Arguments& arguments) {
  try {
    convert(arguments);
  } catch (const Error& error) {
    testing::internal::GetCapturedStdout();
    return error;
  }
  ADD_FAILURE() << "accepted";
  return Error(ErrorKind::internal, "");
}

TEST(Convert, through_every_format_and_back_keeps_the_values) {
  const TemporaryFolder folder;
  const std::vector<float> values = ramp(100);
  const std::string start = write_f32(folder / "start.fbin", values);
  for (const std::string between : {"a.h5:/x/y", "a.npy", "a.fvecs", "a.u8bin", "a.bvecs"}) {
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
  const Error error = refusal({in, folder / "out2.fbin", "--rows", "10:51"});
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_THAT(error.what(), HasSubstr("has 50 rows"));
}

TEST(Convert, value_without_a_place_names_row_and_value_and_leaves_nothing) {
  const TemporaryFolder folder;
  std::vector<float> values = ramp(40);
  values[17 * kCols + 2] = 300;
  const std::string in = write_f32(folder / "in.fbin", values);
  for (const std::string dtype : {"u8", "i8"}) {
    const Error error = refusal({in, folder / "out.npy", "--rows", "10:40", "--dtype", dtype});
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("in.fbin row 17: value 300"));
    EXPECT_THAT(error.what(), HasSubstr("column 2"));
    EXPECT_FALSE(std::filesystem::exists(folder / "out.npy"));
  }
  values[17 * kCols + 2] = 0.5F;
  const Error fraction = refusal({write_f32(folder / "half.fbin", values), folder / "out.u8bin"});
  EXPECT_THAT(fraction.what(), HasSubstr("row 17: value 0.5"));
}

TEST(Convert, finite_values_never_become_infinite) {
  const TemporaryFolder folder;
  std::vector<float> values = ramp(5);
  values[4] = 1e6F;
  const Error error = refusal({write_f32(folder / "in.fbin", values), folder / "out.npy", "--dtype", "f16"});
  EXPECT_EQ(error.kind(), ErrorKind::data);
  EXPECT_THAT(error.what(), HasSubstr("row 1: value 1000000"));
}

TEST(Convert, refuses_what_would_lose_a_file) {
  const TemporaryFolder folder;
  const std::string in = write_f32(folder / "in.fbin", ramp(5));
  const std::string there = write_f32(folder / "there.fbin", ramp(7));
  EXPECT_EQ(refusal({in, there}).kind(), ErrorKind::cannot_create);
  EXPECT_EQ(read_f32(there), ramp(7));
  EXPECT_EQ(refusal({in, in, "--overwrite"}).kind(), ErrorKind::usage);
  EXPECT_EQ(read_f32(in), ramp(5));
}

TEST(Convert, wrong_calls_are_usage_errors) {
  const TemporaryFolder folder;
  const std::string in = write_f32(folder / "in.fbin", ramp(5));
  EXPECT_EQ(refusal({in}).kind(), ErrorKind::usage);
  EXPECT_EQ(refusal({in, folder / "a.npy", folder / "b.npy"}).kind(), ErrorKind::usage);
  EXPECT_EQ(refusal({in, folder / "a.npy", "--dtype", "f31"}).kind(), ErrorKind::usage);
  EXPECT_EQ(refusal({folder / "absent.fbin", folder / "a.npy"}).kind(), ErrorKind::input_missing);
}

}  // namespace
}  // namespace mpishards::app

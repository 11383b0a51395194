#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/commands/commands.hpp"
#include "core/error.hpp"
#include "io/vector_writer.hpp"
#include "support/data_folder.hpp"
#include "support/expect_error.hpp"
#include "support/hdf5_file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using mpishards::test::TemporaryFolder;
using testing::HasSubstr;

std::string output_of(const Arguments& arguments) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_info(arguments, comm::Communicator()), 0);
  return testing::internal::GetCapturedStdout();
}

nlohmann::json json_of(Arguments arguments) {
  arguments.push_back("--json");
  return nlohmann::json::parse(output_of(arguments));
}

std::string write_vectors(const std::string& path, const std::vector<float>& values, std::int64_t cols) {
  const auto rows = static_cast<std::int64_t>(values.size()) / cols;
  const auto writer = io::create_vector_file(io::parse_input_spec(path), rows, cols, DType::f32, false);
  writer->append(reinterpret_cast<const std::byte*>(values.data()), rows);
  writer->close();
  return path;
}

TEST(Info, tells_shape_dtype_and_size) {
  const TemporaryFolder folder;
  const nlohmann::json json = json_of({write_vectors(folder / "a.fbin", {1, 2, 3, 4, 5, 6}, 2)});
  EXPECT_EQ(json["schema"], "mpishards.info/1");
  const nlohmann::json& file = json["files"][0];
  EXPECT_EQ(file["file_bytes"], 8 + 24);
  EXPECT_EQ(file["datasets"][0]["rows"], 3);
  EXPECT_EQ(file["datasets"][0]["cols"], 2);
  EXPECT_EQ(file["datasets"][0]["dtype"], "f32");
}

TEST(Info, lists_the_data_sets_of_an_hdf5_file_whatever_their_names) {
  const TemporaryFolder folder;
  write_vectors(folder / "a.h5:/deep/vectors", {1, 2, 3, 4}, 2);
  const nlohmann::json file = json_of({folder / "a.h5"})["files"][0];
  ASSERT_EQ(file["datasets"].size(), 1U);
  EXPECT_EQ(file["datasets"][0]["dataset"], "/deep/vectors");
  EXPECT_EQ(file["datasets"][0]["rows"], 2);
}

TEST(Info, stats_count_rows_that_will_be_refused) {
  const TemporaryFolder folder;
  const float infinity = std::numeric_limits<float>::infinity();
  const nlohmann::json json =
      json_of({write_vectors(folder / "a.fbin", {3, 4, 0, 0, infinity, 1, -6, 8}, 2), "--stats"});
  const nlohmann::json& stats = json["files"][0]["datasets"][0]["stats"];
  EXPECT_EQ(stats["nonfinite_rows"], 1);
  EXPECT_EQ(stats["zero_rows"], 1);
  EXPECT_EQ(stats["min"], -6.0);
  EXPECT_EQ(stats["max"], 8.0);
  EXPECT_EQ(stats["mean"], 1.5);
  EXPECT_EQ(stats["min_norm"], 0.0);
  EXPECT_EQ(stats["max_norm"], 10.0);
  EXPECT_EQ(stats["mean_norm"], 5.0);
}

TEST(Info, text_has_a_line_for_every_file) {
  const TemporaryFolder folder;
  const std::string path = write_vectors(folder / "a.fbin", {1, 2, 3, 4}, 2);
  const std::string text = output_of({path, path});
  EXPECT_THAT(text, HasSubstr(path + "  24 B\n"));
  EXPECT_THAT(text, HasSubstr("2 x 2 f32"));
}

struct Outcome {
  int code = 0;
  std::string out;
  std::string complaints;
};

Outcome outcome_of(const Arguments& arguments) {
  Outcome outcome;
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  outcome.code = run_info(arguments, comm::Communicator());
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.complaints = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(Info, missing_or_damaged_files_are_named) {
  const TemporaryFolder folder;
  const auto complains = [](const std::string& path, ErrorKind kind) {
    const Outcome outcome = outcome_of({path});
    EXPECT_EQ(outcome.code, exit_code(kind));
    EXPECT_THAT(outcome.complaints, HasSubstr(path));
    EXPECT_EQ(outcome.out, "");
  };
  complains(folder / "absent.h5", ErrorKind::input_missing);
  complains(folder.write("text.h5", "this is no HDF5 file"), ErrorKind::data);
  complains(folder.write("short.fbin", "abc"), ErrorKind::data);
  test::expect_error(
      ErrorKind::usage, [] { run_info({}, comm::Communicator()); }, "which file?");
}

TEST(Info, good_files_are_described_beside_a_missing_one) {
  const TemporaryFolder folder;
  const std::string good = write_vectors(folder / "a.fbin", {1, 2, 3, 4}, 2);
  const std::string damaged = folder.write("short.fbin", "abc");
  const Outcome outcome = outcome_of({damaged, folder / "absent.h5", good});
  EXPECT_EQ(outcome.code, exit_code(ErrorKind::input_missing)) << "the higher of 65 and 66";
  EXPECT_THAT(outcome.out, HasSubstr("2 x 2 f32"));
  EXPECT_THAT(outcome.complaints, testing::AllOf(HasSubstr("absent.h5"), HasSubstr("short.fbin")));
  const auto json = nlohmann::json::parse(outcome_of({damaged, good, "--json"}).out);
  EXPECT_EQ(json["files"][0]["error"]["kind"], to_string(ErrorKind::data));
  EXPECT_EQ(json["files"][1]["datasets"][0]["rows"], 2);
}

TEST(Info, says_the_stored_type_and_the_one_it_is_read_as) {
  const TemporaryFolder folder;
  const std::vector<std::uint16_t> values = {1, 2, 3, 4, 5, 60000};
  test::add_hdf5_dataset(
      folder / "a.h5",
      {.name = "counts", .dims = {3, 2}, .stored = H5T_STD_U16LE, .given = H5T_NATIVE_UINT16}, values.data());
  const nlohmann::json row = json_of({folder / "a.h5"})["files"][0]["datasets"][0];
  EXPECT_EQ(row["dtype"], "u16");
  EXPECT_EQ(row["read_as"], "i32");
  EXPECT_EQ(row["bytes"], 12);
  EXPECT_THAT(output_of({folder / "a.h5"}), HasSubstr("3 x 2 u16 (read as i32)"));
}

TEST(Info, names_ids_as_such) {
  const TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3, 4};
  const auto writer = io::create_vector_file({folder / "a.h5", "train"}, 2, 2, DType::f32, false, true);
  writer->append(reinterpret_cast<const std::byte*>(values.data()), 2);
  writer->append_ids(std::array<GlobalId, 2>{8, 9});
  writer->close();
  const std::string text = output_of({folder / "a.h5"});
  EXPECT_THAT(text, HasSubstr("own ids"));
  EXPECT_THAT(text, HasSubstr("ids of the vectors beside it"));
}

TEST(Info, lists_real_files) {
  const auto data = mpishards::test::data_folder();
  if (!data) GTEST_SKIP() << "no data sets";
  const nlohmann::json file = json_of({*data + "/sift-5k-128-euclidean.hdf5"})["files"][0];
  std::vector<std::string> names;
  for (const nlohmann::json& row : file["datasets"]) names.push_back(row["dataset"]);
  for (const char* name : {"/train", "/test", "/neighbors", "/distances"})
    EXPECT_THAT(names, testing::Contains(name));
  EXPECT_TRUE(file.contains("attributes")) << "as for every file with neighbors";
}

}  // namespace
}  // namespace mpishards::app

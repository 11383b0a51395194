#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/results_writer.hpp"
#include "support/data_folder.hpp"
#include "support/expect_error.hpp"
#include "support/hdf5_file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::expect_error;

constexpr std::int64_t kQueries = 3;
constexpr std::int64_t kColumns = 2;

/// The ids and distances of every file below; the distances are exact in float32 and float64.
const std::vector<std::int64_t> kIds = {7, 1, 0, 5, 9, 3};
const std::vector<double> kDistancesOf = {0.5, 1.25, 0, 2, 0.75, 8.5};

template <class To, class From>
std::vector<To> as(const std::vector<From>& values) {
  std::vector<To> out;
  for (const From value : values) out.push_back(static_cast<To>(value));
  return out;
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TopK answer(bool with_distances) {
  TopK rows(kQueries, kColumns, Metric::l2);
  for (std::size_t i = 0; i < kIds.size(); ++i) {
    rows.neighbors()[i] = kIds[i];
    rows.distances()[i] = with_distances ? static_cast<float>(kDistancesOf[i]) : 0.0F;
  }
  return rows;
}

/// Reads the file whole and from its middle.
void expect_answer(const std::string& path, bool with_distances) {
  const auto result = open_result(path);
  EXPECT_EQ(result->nq(), kQueries);
  EXPECT_EQ(result->k(), kColumns);
  EXPECT_EQ(result->has_distances(), with_distances);
  const TopK expected = answer(with_distances);
  EXPECT_EQ(result->read(0, kQueries), expected);
  const TopK middle = result->read(1, 2);
  EXPECT_EQ(middle.neighbors()[0], expected.neighbors()[2]);
  EXPECT_EQ(middle.neighbors()[1], expected.neighbors()[3]);
  EXPECT_EQ(middle.distances()[1], expected.distances()[3]);
  expect_error(
      ErrorKind::internal, [&] { result->read(1, kQueries + 1); }, "of 3 queries");
}

/// A result as a search leaves it; returns the name to open it by.
std::string published(const test::TemporaryFolder& folder, ResultFormat format) {
  const std::string path = folder / ("result." + std::string(to_string(format)));
  const ResultSlices slices(create_result(path, format, kQueries, kColumns, 100));
  slices.write(0, answer(true));
  slices.sync();
  publish_result(path, format, {{"metric", std::string("l2")}, {"k", kColumns}});
  return path;
}

/// Numpy's format by its published description, for little-endian arrays.
std::string npy_bytes(const std::string& type, const std::string& shape, const std::string& body) {
  std::string text = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  text.resize(117, ' ');
  text += '\n';
  return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + text + body;
}

std::string ibin_bytes(std::uint32_t nq, std::uint32_t k, const std::string& body) {
  return bytes_of(std::vector<std::uint32_t>{nq, k}) + body;
}

std::string ivecs_bytes() {
  std::string bytes;
  for (std::size_t q = 0; q < kQueries; ++q)
    bytes += bytes_of(std::vector<std::int32_t>{kColumns, static_cast<std::int32_t>(kIds[q * kColumns]),
                                                static_cast<std::int32_t>(kIds[q * kColumns + 1])});
  return bytes;
}

template <class Id>
void add_ids(const std::string& path, hid_t type, std::vector<hsize_t> dims = {kQueries, kColumns}) {
  test::add_hdf5_dataset(path, {.name = "neighbors", .dims = std::move(dims), .stored = type, .given = type},
                         as<Id>(kIds).data());
}

template <class Distance>
void add_distances(const std::string& path, hid_t type, std::vector<hsize_t> dims = {kQueries, kColumns}) {
  test::add_hdf5_dataset(path, {.name = "distances", .dims = std::move(dims), .stored = type, .given = type},
                         as<Distance>(kDistancesOf).data());
}

void cut_to(const std::string& path, std::uintmax_t bytes) {
  std::filesystem::resize_file(path, bytes);
}

// --- what a search leaves

class OwnResult : public testing::TestWithParam<ResultFormat> {
 protected:
  test::TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Formats, OwnResult,
                         testing::Values(ResultFormat::h5, ResultFormat::npy, ResultFormat::ibin,
                                         ResultFormat::csr),
                         [](const auto& format) { return std::string(to_string(format.param)); });

TEST_P(OwnResult, is_read_with_its_attributes) {
  const std::string path = published(folder_, GetParam());
  expect_answer(path, true);
  EXPECT_EQ(std::get<std::string>(open_result(path)->attributes().at("metric")), "l2");
  EXPECT_EQ(std::get<std::int64_t>(open_result(path)->attributes().at("k")), kColumns);
}

TEST_P(OwnResult, is_refused_when_cut_short) {
  const std::string path = published(folder_, GetParam());
  for (const std::string& file : result_paths(path, GetParam())) {
    if (file.ends_with(".attributes.json")) continue;
    const std::uintmax_t whole = std::filesystem::file_size(file);
    cut_to(file, whole - 1);
    expect_error(
        ErrorKind::data, [&] { open_result(path); }, file);
    cut_to(file, 5);  // within every format's first words
    expect_error(
        ErrorKind::data, [&] { open_result(path); }, file);
    cut_to(file, 0);
    expect_error(
        ErrorKind::data, [&] { open_result(path); }, file);
    std::filesystem::remove(file);
    published(folder_, GetParam());
  }
}

TEST(PublishedResult, of_npy_is_opened_by_any_of_its_names) {
  const test::TemporaryFolder folder;
  published(folder, ResultFormat::npy);
  for (const char* name : {"result.npy", "result", "result.neighbors.npy"}) {
    SCOPED_TRACE(name);
    expect_answer(folder / name, true);
    EXPECT_TRUE(open_result(folder / name)->attributes().contains("metric"));
  }
}

TEST(PublishedResult, with_damaged_attributes_is_refused) {
  const test::TemporaryFolder folder;
  const std::string path = published(folder, ResultFormat::ibin);
  folder.write("result.ibin.attributes.json", "{\"metric\": \"l2\"");
  expect_error(
      ErrorKind::data, [&] { open_result(path); }, "result.ibin.attributes.json");
}

// --- ground truth of others

TEST(GroundTruth, of_ann_benchmarks_is_read_in_both_widths) {
  const test::TemporaryFolder folder;
  add_ids<std::int32_t>(folder / "narrow.hdf5", H5T_NATIVE_INT32);
  add_distances<float>(folder / "narrow.hdf5", H5T_NATIVE_FLOAT);
  expect_answer(folder / "narrow.hdf5", true);
  add_ids<std::int64_t>(folder / "wide.hdf5", H5T_NATIVE_INT64);
  add_distances<double>(folder / "wide.hdf5", H5T_NATIVE_DOUBLE);
  expect_answer(folder / "wide.hdf5", true);
}

TEST(GroundTruth, without_distances_is_read_as_ids) {
  const test::TemporaryFolder folder;
  add_ids<std::int32_t>(folder / "truth.hdf5", H5T_NATIVE_INT32);
  for (const std::string& path :
       {folder / "truth.hdf5", folder.write("truth.ivecs", ivecs_bytes()),
        folder.write("truth.ibin", ibin_bytes(kQueries, kColumns, bytes_of(as<std::int32_t>(kIds)))),
        folder.write("narrow.npy", npy_bytes("<i4", "3, 2", bytes_of(as<std::int32_t>(kIds)))),
        folder.write("wide.npy", npy_bytes("<i8", "3, 2", bytes_of(kIds)))}) {
    SCOPED_TRACE(path);
    expect_answer(path, false);
    EXPECT_TRUE(open_result(path)->attributes().empty());
  }
}

TEST(GroundTruth, of_big_ann_is_read_with_distances) {
  const test::TemporaryFolder folder;
  const std::string body = bytes_of(as<std::int32_t>(kIds)) + bytes_of(as<float>(kDistancesOf));
  expect_answer(folder.write("truth.ibin", ibin_bytes(kQueries, kColumns, body)), true);
}

TEST(GroundTruth, of_another_shape_or_type_is_refused) {
  const test::TemporaryFolder folder;
  add_distances<float>(folder / "no_ids.h5", H5T_NATIVE_FLOAT);
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "no_ids.h5"); }, "no data set 'neighbors'");
  add_ids<float>(folder / "float_ids.h5", H5T_NATIVE_FLOAT);
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "float_ids.h5"); }, ":neighbors", "integers");
  add_ids<std::int64_t>(folder / "flat.h5", H5T_NATIVE_INT64, {kQueries * kColumns});
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "flat.h5"); }, ":neighbors", "1 dimensions");
  add_ids<std::int64_t>(folder / "turned.h5", H5T_NATIVE_INT64);
  add_distances<float>(folder / "turned.h5", H5T_NATIVE_FLOAT, {kColumns, kQueries});
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "turned.h5"); }, "2 x 3", "3 x 2");
  const std::string floats = npy_bytes("<f4", "3, 2", bytes_of(as<float>(kDistancesOf)));
  folder.write("floats.npy", floats);
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "floats.npy"); }, "f32", "expected ids");
}

TEST(GroundTruth, with_sizes_that_lie_is_refused) {
  const test::TemporaryFolder folder;
  const std::string ids = bytes_of(as<std::int32_t>(kIds));
  // 2^31 x 2^31 x 4 bytes and 8 bytes wrap around to 0 in 64 bits.
  for (const std::string& bytes :
       {ibin_bytes(kQueries, kColumns, ids.substr(1)), ibin_bytes(4, kColumns, ids),
        ibin_bytes(1U << 31, 1U << 31, ""), ibin_bytes(1U << 31, 1U << 31, ids)}) {
    folder.write("truth.ibin", bytes);
    expect_error(
        ErrorKind::data, [&] { open_result(folder / "truth.ibin"); }, "truth.ibin", "header says");
  }
}

TEST(GroundTruth, cut_short_is_refused) {
  const test::TemporaryFolder folder;
  add_ids<std::int32_t>(folder / "truth.hdf5", H5T_NATIVE_INT32);
  folder.write("truth.ivecs", ivecs_bytes());
  folder.write("truth.npy", npy_bytes("<i4", "3, 2", bytes_of(as<std::int32_t>(kIds))));
  for (const char* name : {"truth.hdf5", "truth.ivecs", "truth.npy"}) {
    SCOPED_TRACE(name);
    cut_to(folder / name, std::filesystem::file_size(folder / name) - 1);
    expect_error(
        ErrorKind::data, [&] { open_result(folder / name); }, name);
    cut_to(folder / name, 3);
    expect_error(
        ErrorKind::data, [&] { open_result(folder / name); }, name);
  }
}

TEST(GroundTruth, that_is_absent_or_of_no_known_format_is_refused) {
  const test::TemporaryFolder folder;
  for (const char* name : {"truth.h5", "truth.ivecs", "truth.ibin", "truth.npy"})
    expect_error(
        ErrorKind::input_missing, [&] { open_result(folder / name); }, name);
  folder.write("truth.txt", "1 2 3\n");
  expect_error(
      ErrorKind::data, [&] { open_result(folder / "truth.txt"); }, "HDF5", ".ivecs");
  expect_error(
      ErrorKind::data, [&] { open_result(folder.path()); }, folder.path());
}

TEST(GroundTruth, is_a_whole_file) {
  const test::TemporaryFolder folder;
  add_ids<std::int32_t>(folder / "truth.hdf5", H5T_NATIVE_INT32);
  expect_error(
      ErrorKind::usage, [&] { open_result(folder / "truth.hdf5:neighbors"); }, "whole file",
      "give " + (folder / "truth.hdf5"));
}

TEST(GroundTruth, that_crashes_the_hdf5_library_is_refused) {
  const auto data = test::data_folder();
  if (!data) GTEST_SKIP() << "no real data: set MPISHARDS_DATA";
  for (const char* name : {"cve-2018-13867.h5", "cve-2025-6269-1.h5"})
    expect_error(
        ErrorKind::data, [&] { open_result(*data + "/robustness/" + name); }, name);
}

}  // namespace
}  // namespace mpishards::io

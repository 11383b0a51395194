// Real files through every format, and what concatenation and ids promise.
#include "io/vector_source.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/half.hpp"
#include "support/data_folder.hpp"
#include "support/expect_error.hpp"
#include "support/hdf5_file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::add_hdf5_dataset;
using test::expect_error;
using test::Hdf5DatasetPlan;
using test::TemporaryFolder;

std::vector<float> counting(std::int64_t count, float first = 0) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

template <class T>
std::vector<T> read_all(const VectorSource& source, std::int64_t begin, std::int64_t end) {
  EXPECT_EQ(size_bytes(source.dtype()), sizeof(T));
  std::vector<T> values(static_cast<std::size_t>((end - begin) * source.cols()));
  source.read_rows(begin, end, reinterpret_cast<std::byte*>(values.data()));
  return values;
}

Hdf5DatasetPlan float_plan(hsize_t rows, hsize_t cols) {
  Hdf5DatasetPlan plan;
  plan.dims = {rows, cols};
  plan.stored = H5T_IEEE_F32LE;
  plan.given = H5T_NATIVE_FLOAT;
  return plan;
}

std::string data_file(const std::string& name) {
  const auto folder = test::data_folder();
  return folder ? *folder + "/" + name : "";
}

#define REQUIRE_DATA(path) \
  if ((path).empty()) GTEST_SKIP() << "no real data: set MPISHARDS_DATA"

TEST(RealData, the_same_rows_come_from_fvecs_bvecs_and_hdf5) {
  const std::string h5 = data_file("sift-5k-128-euclidean.hdf5");
  REQUIRE_DATA(h5);
  const auto from_h5 = open_source({h5, "train"});
  const auto from_fvecs = open_source({data_file("sift-5k_base.fvecs"), ""});
  const auto from_bvecs = open_source({data_file("sift-5k_base.bvecs"), ""});
  for (const auto* source : {from_h5.get(), from_fvecs.get(), from_bvecs.get()}) {
    EXPECT_EQ(source->rows(), 5000);
    EXPECT_EQ(source->cols(), 128);
  }
  EXPECT_EQ(from_bvecs->dtype(), DType::u8);
  const std::vector<float> expected = read_all<float>(*from_h5, 0, 5000);
  EXPECT_EQ(read_all<float>(*from_fvecs, 0, 5000), expected);
  const std::vector<std::uint8_t> bytes = read_all<std::uint8_t>(*from_bvecs, 0, 5000);
  EXPECT_EQ(std::vector<float>(bytes.begin(), bytes.end()), expected);
  EXPECT_GT(*std::max_element(expected.begin(), expected.end()), 0);
}

TEST(RealData, the_same_rows_come_from_fbin_and_hdf5) {
  const std::string h5 = data_file("deep-10k-96-euclidean.hdf5");
  REQUIRE_DATA(h5);
  const auto from_h5 = open_source({h5, "train"});
  const auto from_fbin = open_source({data_file("deep.base.10K.fbin"), ""});
  EXPECT_EQ(read_all<float>(*from_h5, 17, 9999), read_all<float>(*from_fbin, 17, 9999));
}

TEST(RealData, truth_files_are_ids) {
  const std::string ivecs = data_file("sift-5k_groundtruth.ivecs");
  REQUIRE_DATA(ivecs);
  const auto from_ivecs = open_source({ivecs, ""});
  const auto from_h5 = open_source({data_file("sift-5k-128-euclidean.hdf5"), "neighbors"});
  EXPECT_EQ(from_ivecs->dtype(), DType::i32);
  EXPECT_EQ(from_h5->dtype(), DType::i32);
  EXPECT_EQ(read_all<std::int32_t>(*from_ivecs, 0, 100), read_all<std::int32_t>(*from_h5, 0, 100));
  EXPECT_EQ(open_source({data_file("deep.groundtruth.10K.10K.ibin"), ""})->cols(), 100);
}

TEST(RealData, packed_chunks_read_alike_by_any_ranges) {
  const std::string h5 = data_file("fashion-mnist-784-euclidean.gz.hdf5");
  REQUIRE_DATA(h5);
  const auto source = open_source({h5, "train"});
  EXPECT_EQ(source->layout(), "chunked 256x784, deflate");
  EXPECT_FALSE(source->is_read_in_parallel());
  EXPECT_EQ(source->rows(), 60000);
  const std::vector<std::uint8_t> whole = read_all<std::uint8_t>(*source, 0, 20000);
  std::vector<std::uint8_t> pieces;
  for (std::int64_t row = 0; row < 20000; row += 999) {
    const auto piece = read_all<std::uint8_t>(*source, row, std::min<std::int64_t>(20000, row + 999));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(whole, pieces);
}

TEST(Hdf5Source, reads_every_number_type_and_byte_order) {
  struct Case {
    hid_t stored;
    DType dtype;
  };
  const Case cases[] = {
      {H5T_IEEE_F32LE, DType::f32}, {H5T_IEEE_F32BE, DType::f32}, {H5T_IEEE_F64LE, DType::f64},
      {H5T_IEEE_F64BE, DType::f64}, {H5T_STD_U8LE, DType::u8},    {H5T_STD_I8LE, DType::i8},
      {H5T_STD_I32BE, DType::i32},  {H5T_STD_I64LE, DType::i64},  {H5T_STD_U16LE, DType::i32},
      {H5T_STD_I16BE, DType::i32},  {H5T_STD_U32LE, DType::i64}};
  const std::vector<float> values = counting(7 * 3);
  for (const bool chunked : {false, true}) {
    const TemporaryFolder folder;
    int number = 0;
    for (const Case& c : cases) {
      Hdf5DatasetPlan plan = float_plan(7, 3);
      plan.stored = c.stored;
      plan.name = "group/x" + std::to_string(number++);
      if (chunked) plan.chunk = {2, 2};
      if (chunked) plan.deflate = 4;
      add_hdf5_dataset(folder / "a.h5", plan, values.data());
      const auto source = open_source({folder / "a.h5", plan.name});
      ASSERT_EQ(to_string(source->dtype()), to_string(c.dtype)) << plan.name;
      std::vector<double> read(5 * 3);
      const Matrix rows = source->read_matrix(1, 6);
      for (std::size_t i = 0; i < read.size(); ++i) {
        if (c.dtype == DType::f32) read[i] = rows.view().as<float>().data[i];
        if (c.dtype == DType::f64) read[i] = rows.view().as<double>().data[i];
        if (c.dtype == DType::u8) read[i] = rows.view().as<std::uint8_t>().data[i];
        if (c.dtype == DType::i8) read[i] = rows.view().as<std::int8_t>().data[i];
        if (c.dtype == DType::i32) read[i] = rows.view().as<std::int32_t>().data[i];
        if (c.dtype == DType::i64) read[i] = static_cast<double>(rows.view().as<std::int64_t>().data[i]);
      }
      EXPECT_EQ(read, std::vector<double>(values.begin() + 3, values.begin() + 18)) << plan.name;
    }
  }
}

hid_t two_byte_float(std::size_t exponent_bits, H5T_order_t order) {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 15 - exponent_bits, exponent_bits, 0, 15 - exponent_bits);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, (std::size_t{1} << (exponent_bits - 1)) - 1);
  H5Tset_order(type, order);
  return type;
}

TEST(Hdf5Source, reads_two_byte_floats_as_half_and_brain_floats) {
  const std::vector<float> values = {0.5F, -1.25F, 3.0F, 96.0F, -0.0078125F, 2.5F};
  const TemporaryFolder folder;
  int number = 0;
  for (const std::size_t exponent_bits : {5, 8})
    for (const H5T_order_t order : {H5T_ORDER_LE, H5T_ORDER_BE})
      for (const bool chunked : {false, true}) {
        Hdf5DatasetPlan plan = float_plan(3, 2);
        const H5Type type(two_byte_float(exponent_bits, order), "H5Tcopy", "type");
        plan.stored = type.get();
        plan.name = "x" + std::to_string(number++);
        if (chunked) plan.chunk = {2, 2};
        add_hdf5_dataset(folder / "a.h5", plan, values.data());
        const auto source = open_source({folder / "a.h5", plan.name});
        ASSERT_EQ(source->dtype(), exponent_bits == 5 ? DType::f16 : DType::bf16);
        std::vector<float> read;
        for (const std::uint16_t bits : read_all<std::uint16_t>(*source, 0, 3))
          read.push_back(exponent_bits == 5 ? half_to_float(bits) : bfloat16_to_float(bits));
        EXPECT_EQ(read, values) << plan.name;
      }
}

TEST(Hdf5Source, finds_data_behind_a_user_block) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  {
    const Hdf5Lock lock;
    const H5Plist creation(H5Pcreate(H5P_FILE_CREATE), "H5Pcreate", path);
    ASSERT_GE(H5Pset_userblock(creation.get(), 1024), 0);
    const H5File file(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), H5P_DEFAULT), "H5Fcreate", path);
  }
  const std::vector<float> values = counting(40);
  add_hdf5_dataset(path, float_plan(10, 4), values.data());
  EXPECT_EQ(read_all<float>(*open_source({path, ""}), 0, 10), values);
}

TEST(Hdf5Source, follows_soft_links_in_the_file) {
  const TemporaryFolder folder;
  const std::vector<float> values = counting(6);
  add_hdf5_dataset(folder / "a.h5", float_plan(3, 2), values.data());
  {
    const Hdf5Lock lock;
    const H5File file(H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT), "H5Fopen", "a.h5");
    ASSERT_GE(H5Lcreate_soft("/train", file.get(), "alias", H5P_DEFAULT, H5P_DEFAULT), 0);
    ASSERT_GE(H5Lcreate_soft("/nowhere", file.get(), "dangling", H5P_DEFAULT, H5P_DEFAULT), 0);
  }
  EXPECT_EQ(read_all<float>(*open_source({folder / "a.h5", "alias"}), 0, 3), values);
  expect_error(
      ErrorKind::input_missing,
      [&] {
        open_source({folder / "a.h5", "dangling"});
      },
      "dangling");
}

TEST(Hdf5Source, reads_ids_beside_the_vectors) {
  const TemporaryFolder folder;
  const std::vector<float> values = counting(8);
  Hdf5DatasetPlan plan = float_plan(4, 2);
  plan.name = "docs/vectors";
  add_hdf5_dataset(folder / "a.h5", plan, values.data());
  EXPECT_FALSE(open_source({folder / "a.h5", "docs/vectors"})->has_ids());
  const std::vector<std::int64_t> ids = {7, 5, 1'000'000'000'000, 0};
  Hdf5DatasetPlan id_plan;
  id_plan.name = "docs/ids";
  id_plan.dims = {4};
  id_plan.stored = H5T_STD_U64BE;
  id_plan.given = H5T_NATIVE_INT64;
  add_hdf5_dataset(folder / "a.h5", id_plan, ids.data());
  const auto source = open_source({folder / "a.h5", "docs/vectors"});
  ASSERT_TRUE(source->has_ids());
  std::vector<GlobalId> read(3);
  source->read_ids(1, 4, read);
  EXPECT_EQ(read, std::vector<GlobalId>(ids.begin() + 1, ids.end()));
}

TEST(Hdf5Source, refuses_ids_that_are_negative_or_too_few) {
  const std::vector<float> values = counting(8);
  const std::vector<std::int64_t> ids = {7, 5, -3, 0};
  for (const hsize_t count : {hsize_t{4}, hsize_t{3}}) {
    const TemporaryFolder folder;
    add_hdf5_dataset(folder / "a.h5", float_plan(4, 2), values.data());
    Hdf5DatasetPlan plan;
    plan.name = "ids";
    plan.dims = {count};
    plan.stored = H5T_STD_I64LE;
    plan.given = H5T_NATIVE_INT64;
    add_hdf5_dataset(folder / "a.h5", plan, ids.data());
    const auto open_and_read = [&] {
      const auto source = open_source({folder / "a.h5", "train"});
      std::vector<GlobalId> read(4);
      source->read_ids(0, 4, read);
    };
    if (count == 4)
      expect_error(ErrorKind::data, open_and_read, "a.h5:ids", "row 2", "negative");
    else
      expect_error(ErrorKind::data, open_and_read, "a.h5:ids", "3 ids", "4 rows");
  }
}

TEST(Hdf5Source, two_threads_may_read_at_once) {
  const TemporaryFolder folder;
  const std::vector<float> values = counting(4000 * 16);
  Hdf5DatasetPlan plan = float_plan(4000, 16);
  plan.chunk = {64, 16};
  plan.deflate = 1;
  add_hdf5_dataset(folder / "a.h5", plan, values.data());
  const auto source = open_source({folder / "a.h5", "train"});
  std::vector<std::vector<float>> read(2);
  std::vector<std::thread> threads;
  for (auto& mine : read)
    threads.emplace_back([&mine, &source] {
      for (std::int64_t row = 0; row < 4000; row += 40) {
        const auto part = read_all<float>(*source, row, row + 40);
        mine.insert(mine.end(), part.begin(), part.end());
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(read[0], values);
  EXPECT_EQ(read[1], values);
}

TEST(Concatenate, is_the_files_row_after_row) {
  const TemporaryFolder folder;
  const std::vector<float> values = counting(10 * 2);
  add_hdf5_dataset(folder / "a.h5", float_plan(4, 2), values.data());
  add_hdf5_dataset(folder / "b.h5", float_plan(1, 2), values.data() + 8);
  add_hdf5_dataset(folder / "c.h5", float_plan(5, 2), values.data() + 10);
  const auto source = open_sources({{folder / "a.h5", ""}, {folder / "b.h5", ""}, {folder / "c.h5", ""}});
  EXPECT_TRUE(source->is_read_in_parallel());
  ASSERT_EQ(source->rows(), 10);
  for (std::int64_t begin = 0; begin <= 10; ++begin)
    for (std::int64_t end = begin; end <= 10; ++end)
      EXPECT_EQ(read_all<float>(*source, begin, end),
                std::vector<float>(values.begin() + 2 * begin, values.begin() + 2 * end));
  EXPECT_EQ(source->describe_row(3), (folder / "a.h5:train") + " row 3");
  EXPECT_EQ(source->describe_row(4), (folder / "b.h5:train") + " row 0");
  EXPECT_EQ(source->describe_row(9), (folder / "c.h5:train") + " row 4");
  EXPECT_THROW(source->read_matrix(3, 11), Error);
}

TEST(Concatenate, refuses_files_that_differ) {
  const TemporaryFolder folder;
  const std::vector<float> values = counting(12);
  add_hdf5_dataset(folder / "a.h5", float_plan(4, 2), values.data());
  add_hdf5_dataset(folder / "wide.h5", float_plan(4, 3), values.data());
  Hdf5DatasetPlan plan = float_plan(4, 2);
  plan.stored = H5T_STD_U8LE;
  add_hdf5_dataset(folder / "bytes.h5", plan, values.data());
  expect_error(
      ErrorKind::data,
      [&] {
        open_sources({{folder / "a.h5", ""}, {folder / "wide.h5", ""}});
      },
      "a.h5", "wide.h5", "d = 2", "d = 3");
  expect_error(
      ErrorKind::data,
      [&] {
        open_sources({{folder / "a.h5", ""}, {folder / "bytes.h5", ""}});
      },
      "a.h5", "bytes.h5", "f32", "u8");
}

TEST(VectorFormats, are_listed_once_each) {
  std::string suffixes;
  for (const FormatRow& row : vector_formats()) suffixes += std::string(row.suffix) + " ";
  EXPECT_EQ(suffixes,
            ".h5 .hdf5 .he5 .hdf .fbin .u8bin .i8bin .ibin .fvecs .bvecs .ivecs .npy .index .faiss ");
}

}  // namespace
}  // namespace mpishards::io

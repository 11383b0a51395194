#include "io/index_directory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "io/index_files.hpp"
#include "io/vector_source.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::expect_error;

constexpr IndexShape kShape{.rows = 5, .d = 3, .dtype = DType::f16, .nlist = 2, .n_shards = 2};

/// Five rows in two lists and two shards.
class IndexDirectory : public testing::Test {
 protected:
  IndexDirectory() : directory_(folder_ / "index") {
    std::filesystem::create_directory(directory_);
    IndexFiles files(create_index_files(directory_, kShape));
    std::iota(rows_.begin(), rows_.end(), std::uint16_t{100});
    const TypedView view{DType::f16, reinterpret_cast<const std::byte*>(rows_.data()), 5, 3};
    files.write_rows(0, view, ids_);
    files.write_centroids({centroids_.data(), 2, 3});
    files.write_starts(std::vector<std::int64_t>{0, 4, 5});
    files.write_labels(0, std::vector<std::int32_t>{0, 1, 0, 0, 0});
    files.sync();
    remove_build_files(directory_);
    manifest_ = {.type = "ivf",
                 .metric = Metric::ip,
                 .rows = 5,
                 .d = 3,
                 .dtype = DType::f16,
                 .nlist = 2,
                 .shards = {{shard_file_name(0), 0, 3, 0, 11, 0xfffffffffffffffe},
                            {shard_file_name(1), 3, 2, 0, 13, 14}},
                 .lists_hash = hash_file(lists_path(directory_)),
                 .facts = {{"training_rows", std::int64_t{5}}, {"revision", std::string("r1")}, {"x", 0.25}}};
    for (IndexShard& shard : manifest_.shards)
      shard.size_bytes = static_cast<std::int64_t>(std::filesystem::file_size(directory_ + "/" + shard.file));
    write_index_manifest(directory_, manifest_);
  }

  std::string path_of(const std::string& name) const { return directory_ + "/" + name; }

  void rewrite(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_of(name), std::ios::binary) << bytes;
  }

  void flip(const std::string& name, std::size_t at) const {
    std::string bytes = test::bytes_of(path_of(name));
    bytes.at(at) = static_cast<char>(bytes[at] ^ 1);
    rewrite(name, bytes);
  }

  /// The manifest with one part replaced, as if it had been written so.
  void change(const std::function<void(IndexManifest&)>& step) const {
    IndexManifest changed = manifest_;
    step(changed);
    write_index_manifest(directory_, changed);
  }

  test::TemporaryFolder folder_;
  std::string directory_;
  std::array<std::uint16_t, 15> rows_{};
  std::vector<GlobalId> ids_ = {40, 10, 50, 20, 30};
  std::vector<float> centroids_ = {1, 2, 3, 4, 5, 6};
  IndexManifest manifest_;
};

TEST_F(IndexDirectory, gives_back_what_was_written) {
  EXPECT_TRUE(is_index_directory(directory_));
  EXPECT_FALSE(is_index_directory(folder_.path()));
  const IndexManifest read = read_index(directory_);
  EXPECT_EQ(read.type, "ivf");
  EXPECT_EQ(read.metric, Metric::ip);
  EXPECT_EQ(read.rows, 5);
  EXPECT_EQ(read.d, 3);
  EXPECT_EQ(read.dtype, DType::f16);
  EXPECT_EQ(read.nlist, 2);
  EXPECT_EQ(read.facts, manifest_.facts);
  ASSERT_EQ(read.shards.size(), 2U);
  EXPECT_EQ(read.shards[0].ids_hash, 0xfffffffffffffffeU);
  EXPECT_EQ(read.shards[1].first_row, 3);
  const IndexLists lists = read_lists(directory_, read);
  EXPECT_EQ(lists.starts, (std::vector<std::int64_t>{0, 4, 5}));
  EXPECT_EQ(std::vector<float>(lists.centroids.view().as<float>().data,
                               lists.centroids.view().as<float>().data + 6),
            centroids_);
  const auto source = open_sources(index_inputs(directory_, read));
  const Matrix rows = source->read_matrix(0, 5);
  EXPECT_EQ(std::memcmp(rows.data(), rows_.data(), sizeof rows_), 0);
  std::vector<GlobalId> ids(5);
  source->read_ids(0, 5, ids);
  EXPECT_EQ(ids, ids_);
}

TEST_F(IndexDirectory, every_flipped_bit_of_the_manifest_is_noticed) {
  const std::string good = test::bytes_of(path_of("manifest.json"));
  for (std::size_t at = 0; at < good.size(); ++at) {
    flip("manifest.json", at);
    expect_error(
        ErrorKind::data, [&] { read_index(directory_); }, "manifest.json");
    rewrite("manifest.json", good);
  }
}

TEST_F(IndexDirectory, another_version_is_refused_by_its_number) {
  std::string text = test::bytes_of(path_of("manifest.json"));
  const std::string before = "\"version\": 2";
  text.replace(text.find(before), before.size(), "\"version\": 4");
  rewrite("manifest.json", text);
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, "manifest.json", "version 4", "versions 2 and 3");
}

TEST_F(IndexDirectory, says_what_faiss_built_of_each_shard) {
  const std::string files[] = {faiss_path(directory_, 0), faiss_path(directory_, 1)};
  rewrite("shard-00000.faiss", "abc");
  rewrite("shard-00001.faiss", "defg");
  const IndexFaiss faiss = {"IVF4,Flat", "nprobe", 4, 512};
  change([&](IndexManifest& manifest) {
    manifest.type = "faiss";
    manifest.nlist = 1;
    manifest.faiss = faiss;
    for (std::size_t s = 0; s < 2; ++s) {
      manifest.shards[s].faiss_bytes = static_cast<std::int64_t>(3 + s);
      manifest.shards[s].faiss_hash = hash_file(files[s]);
    }
  });
  const IndexManifest read = read_index(directory_);
  EXPECT_EQ(read.faiss, faiss);
  EXPECT_EQ(read.shards[1].faiss_bytes, 4);
  EXPECT_EQ(read.shards[1].faiss_hash, hash_file(files[1]));
  EXPECT_NE(test::bytes_of(path_of("manifest.json")).find("\"version\": 3"), std::string::npos);
  rewrite("shard-00001.faiss", "def");
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, files[1], "3 bytes, expected 4");
  std::filesystem::remove(files[0]);
  expect_error(
      ErrorKind::input_missing, [&] { read_index(directory_); }, files[0]);
}

TEST_F(IndexDirectory, no_index_is_refused) {
  expect_error(
      ErrorKind::input_missing, [&] { read_index(folder_.path()); }, "manifest.json");
  rewrite("manifest.json", "{}");
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, "no manifest");
}

TEST_F(IndexDirectory, a_missing_or_cut_file_is_named) {
  const std::string shard = test::bytes_of(path_of(shard_file_name(1)));
  std::filesystem::remove(path_of(shard_file_name(1)));
  expect_error(
      ErrorKind::input_missing, [&] { read_index(directory_); }, shard_file_name(1));
  rewrite(shard_file_name(1), shard.substr(0, shard.size() - 1));
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, shard_file_name(1));
  rewrite(shard_file_name(1), shard);
  std::filesystem::remove(lists_path(directory_));
  expect_error(
      ErrorKind::input_missing, [&] { read_index(directory_); }, "lists.h5");
}

TEST_F(IndexDirectory, a_flipped_bit_of_the_lists_is_noticed_before_hdf5_sees_it) {
  const std::size_t size = test::bytes_of(lists_path(directory_)).size();
  for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
    flip("lists.h5", at);
    expect_error(
        ErrorKind::data, [&] { read_lists(directory_, read_index(directory_)); }, "lists.h5");
    flip("lists.h5", at);
  }
}

TEST_F(IndexDirectory, numbers_that_contradict_each_other_are_refused) {
  change([](IndexManifest& m) { m.rows = 6; });
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, "5 rows", "6");
  change([](IndexManifest& m) { m.shards[1].first_row = 2; });
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, shard_file_name(1), "row 2");
  change([](IndexManifest& m) { m.shards[0].file = "../elsewhere.h5"; });
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, "../elsewhere.h5");
  change([](IndexManifest& m) { m.nlist = 3; });
  expect_error(
      ErrorKind::data, [&] { read_lists(directory_, read_index(directory_)); }, "lists.h5");
}

TEST(IndexCodes, are_read_as_they_were_written_across_shards) {
  const test::TemporaryFolder folder;
  const std::string directory = folder / "index";
  std::filesystem::create_directory(directory);
  IndexShape shape = kShape;
  shape.codes = {.codec = "pq2", .code_bytes = 2, .parameter_rows = 4};
  IndexFiles files(IndexLayout::deserialize(create_index_files(directory, shape).serialize()));
  EXPECT_EQ(files.shape().codes, shape.codes);
  std::vector<std::byte> codes(10);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i + 40);
  std::vector<float> parameters(12);
  std::iota(parameters.begin(), parameters.end(), 0.5F);
  files.write_codes(0, codes);
  files.write_codec({parameters.data(), 4, 3});
  files.write_starts(std::vector<std::int64_t>{0, 4, 5});
  files.sync();
  std::vector<std::byte> part(6);
  files.read_codes(1, part);
  EXPECT_TRUE(std::ranges::equal(part, std::span(codes).subspan(2, 6)));

  IndexManifest manifest;
  manifest.type = "ivf";
  manifest.rows = 5;
  manifest.d = 3;
  manifest.dtype = DType::f16;
  manifest.nlist = 2;
  manifest.codes = shape.codes;
  manifest.lists_hash = hash_file(lists_path(directory));
  const IndexLists lists = read_lists(directory, manifest);
  EXPECT_TRUE(std::ranges::equal(std::span(lists.codec.view().as<float>().data, 12), parameters));
  manifest.shards = {{shard_file_name(0), 0, 3}, {shard_file_name(1), 3, 2}};
  const std::vector<InputSpec> inputs = index_code_inputs(directory, manifest);
  const auto source = open_sources(inputs);
  EXPECT_EQ(source->rows(), 5);
  EXPECT_EQ(source->dtype(), DType::u8);
  EXPECT_TRUE(std::ranges::equal(std::span(source->read_matrix(0, 5).data(), 10), codes));
}

TEST_F(IndexDirectory, codes_that_contradict_themselves_are_damage) {
  change([](IndexManifest& m) { m.codes.codec = "sq8"; });
  expect_error(
      ErrorKind::data, [&] { read_index(directory_); }, "manifest.json", "codes 'sq8' of 0 bytes");
}

TEST(IndexShape, shards_cover_the_rows_and_differ_by_one_row_at_most) {
  for (const std::int64_t n_shards : {1, 2, 3, 7, 10}) {
    const IndexShape shape{.rows = 10, .n_shards = n_shards};
    std::int64_t at = 0;
    for (std::int64_t s = 0; s < n_shards; ++s) {
      EXPECT_EQ(shape.shard(s).begin, at);
      at = shape.shard(s).end;
      const std::int64_t rows = at - shape.shard(s).begin;
      EXPECT_TRUE(rows == 10 / n_shards || rows == 10 / n_shards + 1);
    }
    EXPECT_EQ(at, 10);
  }
}

}  // namespace
}  // namespace mpishards::io

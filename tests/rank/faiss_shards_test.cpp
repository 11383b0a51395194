#include "rank/faiss_shards.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/oracle.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 400;
constexpr std::int64_t kDim = 8;
constexpr std::int64_t kQueries = 37;
constexpr std::int64_t kNeighbors = 9;

MatrixView<const float> view_of(const std::vector<float>& values) {
  return {values.data(), std::ssize(values) / kDim, kDim};
}

TypedView typed(MatrixView<const float> rows) {
  return {DType::f32, reinterpret_cast<const std::byte*>(rows.data), rows.rows, rows.cols};
}

/// The rows cut into shards, each with an index of FAISS in a file.
class FaissFiles : public testing::TestWithParam<Metric> {
 protected:
  io::IndexManifest build(const std::string& factory, const std::vector<std::int64_t>& starts) const {
    FaissIndex trained = FaissIndex::create(factory, kDim, metric());
    const Matrix all = prepare_for_faiss(typed(view_of(rows_)), metric());
    if (!trained.traits().is_trained) trained.train(all.view().as<float>());
    const std::vector<std::byte> bytes = trained.to_bytes();
    io::IndexManifest manifest;
    manifest.type = "faiss";
    manifest.metric = metric();
    manifest.d = kDim;
    manifest.rows = kRows;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      const std::string path = io::faiss_path(folder_.path(), static_cast<std::int64_t>(s));
      FaissIndex index = FaissIndex::from_bytes(bytes, factory, metric());
      index.add(all.view().as<float>().slice(starts[s], starts[s + 1]));
      index.write(path);
      io::IndexShard shard;
      shard.first_row = starts[s];
      shard.rows = starts[s + 1] - starts[s];
      shard.faiss_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
      shard.faiss_hash = io::hash_file(path);
      manifest.shards.push_back(shard);
    }
    return manifest;
  }

  TopK search(const io::IndexManifest& manifest, int threads, std::int64_t parameter = 0) const {
    FaissShards shards(metric(), threads);
    if (parameter > 0) shards.set_parameter(parameter);
    shards.load(folder_.path(), manifest, {0, std::ssize(manifest.shards)});
    TopK out(kQueries, kNeighbors, metric());
    shards.search(view_of(queries_), {}, {}, out);
    return out;
  }

  Metric metric() const { return GetParam(); }

  test::TemporaryFolder folder_;
  std::vector<float> rows_ = exact_vectors::make(kRows, kDim, 3, -40, 40);
  std::vector<float> queries_ = exact_vectors::make(kQueries, kDim, 4, -40, 40);
};

TEST_P(FaissFiles, an_index_that_looks_at_all_rows_finds_the_nearest_in_any_shards) {
  const oracle::Measure measure = metric() == Metric::l2   ? oracle::Measure::l2
                                  : metric() == Metric::ip ? oracle::Measure::ip
                                                           : oracle::Measure::cosine;
  const oracle::Answer truth = oracle::search(rows_, queries_, kDim, kNeighbors, measure);
  for (const std::vector<std::int64_t>& starts :
       {std::vector<std::int64_t>{0, kRows}, {0, 5, 300, kRows}, {0, 133, 266, kRows}})
    for (const int threads : {1, 3}) {
      const TopK found = search(build("Flat", starts), threads);
      for (std::int64_t i = 0; i < kQueries * kNeighbors; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const float* const query = queries_.data() + i / kNeighbors * kDim;
        const double tolerance = 1e-6 * std::max(1.0, std::abs(double{truth.distances[at]}));
        EXPECT_NEAR(found.distances()[at], truth.distances[at], tolerance) << "place " << i;
        // Of rows at the same distance FAISS may keep another.
        const float* const row = rows_.data() + found.neighbors()[at] * kDim;
        EXPECT_NEAR(oracle::distance(query, row, kDim, measure), truth.distances[at], tolerance)
            << "place " << i;
      }
    }
}

TEST_P(FaissFiles, threads_and_other_queries_change_nothing) {
  for (const std::string factory : {"HNSW8", "IVF8,PQ4x4", "PCA4,IVF8,Flat", "IVF8,PQ4x4fs"}) {
    const io::IndexManifest manifest = build(factory, {0, 150, kRows});
    const TopK one = search(manifest, 1, 2);
    EXPECT_EQ(search(manifest, 3, 2), one) << factory;
    FaissShards shards(metric(), 2);
    shards.set_parameter(2);
    shards.load(folder_.path(), manifest, {0, 2});
    for (std::int64_t q = 0; q < kQueries; ++q) {
      TopK alone(1, kNeighbors, metric());
      shards.search(view_of(queries_).slice(q, q + 1), {}, {}, alone);
      EXPECT_TRUE(std::ranges::equal(std::as_const(alone).row(0).neighbors, one.row(q).neighbors))
          << factory << q;
    }
  }
}

TEST_P(FaissFiles, an_index_is_built_to_the_same_bytes) {
  for (const std::string factory : {"HNSW8", "IVF8,PQ4x4", "SQ8"}) {
    const std::string path = io::faiss_path(folder_.path(), 1);
    build(factory, {0, 150, kRows});
    const std::string bytes = test::bytes_of(path);
    build(factory, {0, 150, kRows});
    EXPECT_EQ(test::bytes_of(path), bytes) << factory;
  }
}

TEST_P(FaissFiles, a_larger_parameter_finds_more) {
  const io::IndexManifest manifest = build("IVF16,Flat", {0, kRows});
  double few = 0;
  double all = 0;
  const TopK one_list = search(manifest, 1, 1);
  const TopK every_list = search(manifest, 1, 16);
  for (std::int64_t q = 0; q < kQueries; ++q) {
    few += one_list.kth_distance(q);
    all += every_list.kth_distance(q);
  }
  EXPECT_TRUE(metric() == Metric::l2 ? all < few : all > few);
}

INSTANTIATE_TEST_SUITE_P(Metrics, FaissFiles, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& param) { return std::string(to_string(param.param)); });

using FaissDamage = FaissFiles;

TEST_P(FaissDamage, is_refused_before_faiss_sees_it) {
  const io::IndexManifest manifest = build("HNSW8", {0, 100, kRows});
  const std::string path = io::faiss_path(folder_.path(), 1);
  const std::string good = test::bytes_of(path);
  for (const std::size_t at : {std::size_t{0}, std::size_t{30}, good.size() / 2, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    std::ofstream(path, std::ios::binary) << bad;
    test::expect_error(
        ErrorKind::data, [&] { search(manifest, 1); }, path, "checksum");
  }
}

TEST_P(FaissDamage, rows_or_a_dimension_that_are_not_the_manifests_are_refused) {
  io::IndexManifest manifest = build("Flat", {0, kRows});
  manifest.d = kDim + 1;
  test::expect_error(
      ErrorKind::data, [&] { search(manifest, 1); }, "shard-00000.faiss", "400 x 8", "400 x 9");
}

INSTANTIATE_TEST_SUITE_P(Metrics, FaissDamage, testing::Values(Metric::l2));

TEST(FaissIndex, says_in_faiss_words_what_it_can_not_make) {
  test::expect_error(
      ErrorKind::usage, [] { FaissIndex::create("bogus", 8, Metric::l2); }, "'bogus'", "could not parse");
  test::expect_error(
      ErrorKind::usage, [] { FaissIndex::create("IDMap,Flat", 8, Metric::l2); }, "IDMap");
  test::expect_error(
      ErrorKind::config,
      [] {
        const std::vector<float> rows = exact_vectors::make(10, kDim, 5);
        FaissIndex::create("IVF16,Flat", kDim, Metric::l2).train(view_of(rows));
      },
      "IVF16,Flat", "10 rows");
}

TEST(FaissIndex, knows_what_decides_how_much_is_looked_at) {
  const auto traits = [](const std::string& factory) {
    return FaissIndex::create(factory, kDim, Metric::l2).traits();
  };
  EXPECT_EQ(traits("HNSW8").parameter, "ef-search");
  EXPECT_TRUE(traits("HNSW8").is_trained);
  EXPECT_EQ(traits("OPQ4,IVF32,PQ4").parameter, "nprobe");
  EXPECT_EQ(traits("OPQ4,IVF32,PQ4").most, 32);
  EXPECT_EQ(traits("IVF32_HNSW8,Flat,RFlat").parameter, "nprobe");
  EXPECT_EQ(traits("IVF32,PQ4").table_bytes, 32 * 4 * 256 * 4);
  EXPECT_EQ(traits("SQ8").parameter, "");
  EXPECT_EQ(traits("SQ8").row_bytes, kDim);
  EXPECT_FALSE(traits("SQ8").is_trained);
}

}  // namespace
}  // namespace mpishards::rank

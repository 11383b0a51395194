#include "serve/cluster.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>

#include "comm/agree.hpp"
#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "serve/status.hpp"
#include "support/exact_vectors.hpp"
#include "support/oracle.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::serve {
namespace {

constexpr std::int64_t kRows = 203;
constexpr std::int64_t kDim = 6;

std::string fbin_of(const std::vector<float>& values, std::int64_t d) {
  const std::uint32_t header[2] = {static_cast<std::uint32_t>(values.size() / static_cast<std::size_t>(d)),
                                   static_cast<std::uint32_t>(d)};
  std::string bytes(reinterpret_cast<const char*>(header), sizeof header);
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return bytes;
}

/// One collection of two files, on all ranks of the test.
class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() : base_(exact_vectors::make(kRows, kDim, 1)) {
    if (world_.is_root()) folder_.emplace();
    std::string path = world_.is_root() ? folder_->path() : "";
    world_.broadcast_text(path);
    specs_ = {{"points", {{path + "/a.fbin", ""}, {path + "/b.fbin", ""}}, Metric::l2, false}};
    write(base_);
  }

  void write(const std::vector<float>& base) {
    const std::ptrdiff_t cut = 50 * kDim;
    if (world_.is_root()) {
      folder_->write("a.fbin", fbin_of({base.begin(), base.begin() + cut}, kDim));
      folder_->write("b.fbin", fbin_of({base.begin() + cut, base.end()}, kDim));
    }
    world_.barrier();
  }

  /// Loads, and has `step` done on rank 0 while the others follow.
  void serve(const std::function<void(Cluster&)>& step) {
    rank::SearchEngineConfig engine;
    engine.options.threads = 1;
    Cluster cluster(specs_, engine, world_);
    cluster.load_all();
    if (!world_.is_root()) return cluster.follow();
    step(cluster);
    cluster.stop();
  }

  static Matrix matrix_of(const std::vector<float>& values) {
    Matrix matrix(DType::f32, static_cast<std::int64_t>(values.size()) / kDim, kDim);
    std::memcpy(matrix.data(), values.data(), matrix.bytes());
    return matrix;
  }

  static void expect_exact(Cluster& cluster, const std::vector<float>& base, std::int64_t nq,
                           std::int64_t k) {
    const std::vector<float> queries = exact_vectors::make(nq, kDim, 2);
    BatchRecord record;
    const TopK top = cluster.search(0, matrix_of(queries), k, record);
    const oracle::Answer wanted = oracle::search(base, queries, kDim, k, oracle::Measure::l2);
    ASSERT_EQ(top.nq(), nq);
    EXPECT_TRUE(std::equal(wanted.neighbors.begin(), wanted.neighbors.end(), top.neighbors()));
    EXPECT_TRUE(std::equal(wanted.distances.begin(), wanted.distances.end(), top.distances()));
    EXPECT_EQ(std::ssize(record.search_seconds), cluster.n_ranks());
  }

  comm::Communicator world_ = comm::Communicator::world();
  std::optional<test::TemporaryFolder> folder_;
  std::vector<float> base_;
  std::vector<CollectionSpec> specs_;
};

TEST_F(ClusterTest, searches_are_exact_whatever_the_ranks) {
  serve([&](Cluster& cluster) {
    const CollectionPtr info = cluster.catalogue().find("points");
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->rows, kRows);
    EXPECT_EQ(info->dim, kDim);
    EXPECT_EQ(std::ssize(info->shards), cluster.n_ranks());
    for (const std::int64_t nq : {1, 2, 9})
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{7}, kRows})
        expect_exact(cluster, base_, nq, k);
  });
}

TEST_F(ClusterTest, rows_are_selected_counted_and_fetched_by_id) {
  serve([&](Cluster& cluster) {
    const IdSet set = united(IdSet::of({kRows - 1, 5, 3, 1000}), IdSet::of_interval(60, 99));
    EXPECT_EQ(cluster.count(0, set), 43);
    EXPECT_EQ(cluster.select(0, set, 4), (std::vector<GlobalId>{3, 5, 60, 61}));
    EXPECT_EQ(cluster.select(0, IdSet::all(), kRows * 2).size(), static_cast<std::size_t>(kRows));
    const std::vector<GlobalId> ids = {kRows - 1, 1000, 0, 77};
    const FetchedRows rows = cluster.fetch(0, ids);
    EXPECT_EQ(rows.found, (std::vector<char>{1, 0, 1, 1}));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (rows.found[i] == 0) continue;
      EXPECT_EQ(std::memcmp(rows.vectors.view().row(static_cast<std::int64_t>(i)),
                            &base_[static_cast<std::size_t>(ids[i] * kDim)], kDim * sizeof(float)),
                0);
    }
  });
}

TEST_F(ClusterTest, a_reload_replaces_the_rows_and_a_failed_one_keeps_them) {
  const std::vector<float> other = exact_vectors::make(kRows + 40, kDim, 9);
  serve([&](Cluster& cluster) {
    const std::ptrdiff_t cut = 50 * kDim;
    folder_->write("a.fbin", fbin_of({other.begin(), other.begin() + cut}, kDim));
    folder_->write("b.fbin", fbin_of({other.begin() + cut, other.end()}, kDim));
    cluster.begin_load(0);
    expect_exact(cluster, base_, 3, 5);
    cluster.finish_load(0);
    expect_exact(cluster, other, 3, 5);
    EXPECT_EQ(cluster.catalogue().at(0)->generation, 2);

    std::filesystem::remove(*folder_ / "b.fbin");
    cluster.begin_load(0);
    EXPECT_THROW(cluster.finish_load(0), comm::AgreedError);
    expect_exact(cluster, other, 3, 5);
    EXPECT_EQ(cluster.catalogue().at(0)->state, LoadState::loaded);
  });
}

TEST_F(ClusterTest, what_is_released_is_not_searched_until_it_is_loaded_again) {
  serve([&](Cluster& cluster) {
    cluster.release(0);
    EXPECT_EQ(cluster.catalogue().at(0)->state, LoadState::released);
    BatchRecord record;
    EXPECT_THROW(cluster.search(0, matrix_of(exact_vectors::make(1, kDim, 2)), 1, record), RequestError);
    cluster.begin_load(0);
    EXPECT_EQ(cluster.catalogue().at(0)->state, LoadState::loading);
    cluster.finish_load(0);
    expect_exact(cluster, base_, 2, 3);
    EXPECT_FALSE(cluster.heartbeat(false));
    EXPECT_FALSE(cluster.heartbeat(true));
  });
}

TEST_F(ClusterTest, a_missing_file_fails_on_every_rank) {
  specs_[0].base[1].path += ".not";
  rank::SearchEngineConfig engine;
  Cluster cluster(specs_, engine, world_);
  EXPECT_THROW(cluster.load_all(), comm::AgreedError);
}

}  // namespace
}  // namespace mpishards::serve

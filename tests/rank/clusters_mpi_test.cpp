#include "rank/clusters.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <queue>
#include <random>
#include <set>
#include <vector>

#include "core/error.hpp"
#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

using Pairs = std::set<std::pair<GlobalId, GlobalId>>;  // the smaller row first

/// What the file must say of some pairs, by walks from row to row.
struct Expected {
  std::vector<GlobalId> component;
  std::vector<std::uint8_t> keep;
  ClusterSummary summary;

  Expected(std::int64_t rows, const Pairs& pairs)
      : component(static_cast<std::size_t>(rows), kNoNeighbor), keep(component.size(), 1) {
    std::map<GlobalId, std::vector<GlobalId>> near;
    for (const auto& [a, b] : pairs) {
      near[a].push_back(b);
      near[b].push_back(a);
      keep[static_cast<std::size_t>(b)] = 0;
    }
    for (GlobalId first = 0; first < rows; ++first) {
      if (component[static_cast<std::size_t>(first)] != kNoNeighbor) continue;
      std::int64_t size = 0;
      std::queue<GlobalId> open;
      for (open.push(first); !open.empty(); open.pop()) {
        GlobalId& name = component[static_cast<std::size_t>(open.front())];
        if (name == first) continue;
        name = first;
        ++size;
        for (const GlobalId next : near[open.front()]) open.push(next);
      }
      if (size > 1) ++summary.clusters;
      summary.largest = std::max(summary.largest, size);
    }
    summary.removed = std::ranges::count(keep, 0);
  }
};

Pairs random_pairs(std::int64_t rows, int count, unsigned seed) {
  std::mt19937 random(seed);
  Pairs pairs;
  for (int i = 0; i < count; ++i) {
    const auto a = static_cast<GlobalId>(random() % static_cast<unsigned>(rows));
    const auto b = static_cast<GlobalId>(random() % static_cast<unsigned>(rows));
    if (a != b) pairs.emplace(std::min(a, b), std::max(a, b));
  }
  return pairs;
}

class Clusters : public testing::Test {
 protected:
  Clusters() {
    path_ = own_.path();
    comm_.broadcast_text(path_);
    path_ += "/pairs.h5";
  }

  /// A join's matrix with these pairs, once or in both directions, rows from far to near.
  io::CsrSlices matrix_of(std::int64_t rows, const Pairs& pairs, bool both) const {
    std::string text;
    if (comm_.is_root()) {
      std::vector<std::vector<GlobalId>> lists(static_cast<std::size_t>(rows));
      for (const auto& [a, b] : pairs) {
        lists[static_cast<std::size_t>(a)].insert(lists[static_cast<std::size_t>(a)].begin(), b);
        if (both) lists[static_cast<std::size_t>(b)].push_back(a);
      }
      std::vector<std::int64_t> offsets = {0};
      std::vector<GlobalId> ids;
      for (const auto& list : lists) {
        ids.insert(ids.end(), list.begin(), list.end());
        offsets.push_back(std::ssize(ids));
      }
      const io::CsrLayout layout = io::create_csr(
          path_, {.rows = rows, .columns = rows, .nnz = std::ssize(ids), .has_clusters = true});
      const io::CsrSlices matrix(layout);
      matrix.write_offsets(0, offsets);
      matrix.write_entries(0, ids, std::vector<float>(ids.size(), 1.0F));
      text = layout.serialize();
    }
    comm_.broadcast_text(text);
    return io::CsrSlices(io::CsrLayout::deserialize(text));
  }

  void expect_right(std::int64_t rows, const Pairs& pairs, std::int64_t memory_bytes) {
    const Expected expected(rows, pairs);
    for (const bool both : {false, true}) {
      const io::CsrSlices matrix = matrix_of(rows, pairs, both);
      const ClusterSummary summary = find_clusters(matrix, memory_bytes, comm_);
      if (comm_.is_root()) {
        EXPECT_EQ(summary.clusters, expected.summary.clusters);
        EXPECT_EQ(summary.largest, expected.summary.largest);
        EXPECT_EQ(summary.removed, expected.summary.removed);
        std::vector<GlobalId> component(static_cast<std::size_t>(rows));
        std::vector<std::uint8_t> keep(component.size());
        matrix.read_components(0, component);
        matrix.read_keep(0, keep);
        EXPECT_EQ(component, expected.component);
        EXPECT_EQ(keep, expected.keep);
        io::remove_partial(path_, io::ResultFormat::csr);
      }
      comm_.barrier();
    }
  }

  comm::Communicator comm_ = comm::Communicator::world();
  test::TemporaryFolder own_;
  std::string path_;
};

TEST_F(Clusters, are_those_that_walks_along_the_pairs_find) {
  for (const int count : {0, 20, 90, 200, 2000})
    expect_right(211, random_pairs(211, count, static_cast<unsigned>(count)), std::int64_t{1} << 30);
}

TEST_F(Clusters, are_the_same_in_the_least_memory) {
  expect_right(20000, random_pairs(20000, 12000, 7), cluster_bytes(20000));
}

TEST_F(Clusters, of_one_chain_from_the_last_row_to_the_first_are_one) {
  constexpr std::int64_t kRows = 3000;
  Pairs chain;
  for (GlobalId row = 0; row + 1 < kRows; ++row) {
    const GlobalId here = row * 1409 % kRows;  // rows in an order of their own
    const GlobalId next = (row + 1) * 1409 % kRows;
    chain.emplace(std::min(here, next), std::max(here, next));
  }
  expect_right(kRows, chain, std::int64_t{1} << 30);
}

TEST_F(Clusters, of_no_rows_and_of_fewer_rows_than_ranks_are_found) {
  expect_right(0, {}, 1 << 20);
  expect_right(1, {}, 1 << 20);
  expect_right(3, {{0, 2}}, 1 << 20);
}

TEST_F(Clusters, keep_more_than_the_first_row_where_only_a_removed_one_lies_between) {
  // 0 and 3 are not near each other, but both are near 5: 3 stays, and 5 goes.
  const io::CsrSlices matrix = matrix_of(6, {{0, 5}, {3, 5}}, false);
  find_clusters(matrix, 1 << 20, comm_);
  comm_.barrier();
  std::vector<std::uint8_t> keep(6);
  matrix.read_keep(0, keep);
  EXPECT_EQ(keep, (std::vector<std::uint8_t>{1, 1, 1, 1, 1, 0}));
}

TEST_F(Clusters, a_pair_with_no_row_is_refused_on_every_rank) {
  const io::CsrSlices matrix = matrix_of(9, {{8, 9}}, false);
  test::expect_error(
      ErrorKind::data, [&] { find_clusters(matrix, 1 << 20, comm_); }, "row 8", "9",
      "expected a row below 9");
}

}  // namespace
}  // namespace mpishards::rank

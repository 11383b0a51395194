#include "rank/symmetrize.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "core/error.hpp"
#include "rank/search_job.hpp"
#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 60;
constexpr std::int64_t kNearest = 3;

/// Numbers on a line, many of them equal; the distance is the square of the gap.
std::vector<int> points() {
  std::mt19937 random(5);
  std::vector<int> values;
  for (std::int64_t i = 0; i < kRows; ++i) values.push_back(static_cast<int>(random() % 40));
  return values;
}

struct Edge {
  float distance;
  GlobalId to;
  auto operator<=>(const Edge&) const = default;
};
using Graph = std::vector<std::vector<Edge>>;

/// The k nearest others by sorting all of them; the last row knows one only.
Graph nearest() {
  const std::vector<int> values = points();
  Graph graph(kRows);
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < values.size(); ++j)
      if (i != j)
        graph[i].push_back({static_cast<float>((values[i] - values[j]) * (values[i] - values[j])),
                            static_cast<GlobalId>(j)});
    std::ranges::sort(graph[i]);
    graph[i].resize(i + 1 == values.size() ? 1 : kNearest);
  }
  return graph;
}

/// By a set of all pairs.
Graph undirected(const Graph& directed, bool both) {
  std::map<std::pair<GlobalId, GlobalId>, float> pairs;
  for (std::size_t i = 0; i < directed.size(); ++i)
    for (const Edge& edge : directed[i]) pairs[{static_cast<GlobalId>(i), edge.to}] = edge.distance;
  Graph graph(directed.size());
  for (const auto& [pair, distance] : pairs) {
    const auto [from, to] = pair;
    const bool returned = pairs.contains({to, from});
    if (both && !returned) continue;
    graph[static_cast<std::size_t>(from)].push_back({distance, to});
    if (!returned) graph[static_cast<std::size_t>(to)].push_back({distance, from});
  }
  for (auto& row : graph) std::ranges::sort(row);
  return graph;
}

class Symmetrize : public testing::Test {
 protected:
  Symmetrize() {
    std::string path = own_.path();
    comm_.broadcast_text(path);
    path_ = path + "/g.h5";
    std::string text;
    if (comm_.is_root()) text = write_directed().serialize();
    comm_.broadcast_text(text);
    layout_ = io::CsrLayout::deserialize(text);
  }
  ~Symmetrize() override { comm_.barrier(); }

  io::CsrLayout write_directed() const {
    const io::CsrLayout layout = io::create_csr(path_, {kRows, kRows, kRows * kNearest});
    const io::CsrSlices slices(layout);
    const Graph graph = nearest();
    for (std::size_t i = 0; i < graph.size(); ++i)
      for (std::size_t j = 0; j < kNearest; ++j) {
        const bool there = j < graph[i].size();
        const GlobalId id = there ? graph[i][j].to : kNoNeighbor;
        const float distance = there ? graph[i][j].distance : worst_distance(Metric::l2);
        slices.write_entries(static_cast<std::int64_t>(i * kNearest + j), {&id, 1}, {&distance, 1});
      }
    return layout;
  }

  Graph symmetrized(Symmetry symmetry, std::int64_t memory_bytes) const {
    const io::CsrSlices directed(layout_);
    const std::int64_t entries = symmetrize({.directed = &directed,
                                             .out_path = path_ + ".symmetrized",
                                             .symmetry = symmetry,
                                             .metric = Metric::l2,
                                             .memory_bytes = memory_bytes},
                                            comm_);
    io::CsrLayout layout;
    std::string text;
    if (comm_.is_root()) text = io::adopt_csr(path_ + ".symmetrized", {kRows, kRows, entries}).serialize();
    comm_.broadcast_text(text);
    const io::CsrRows rows = io::CsrSlices(io::CsrLayout::deserialize(text)).read_rows(0, kRows);
    comm_.barrier();
    Graph graph(kRows);
    for (std::int64_t i = 0; i < kRows; ++i)
      for (std::size_t j = 0; j < rows.row(i).neighbors.size(); ++j)
        graph[static_cast<std::size_t>(i)].push_back({rows.row(i).distances[j], rows.row(i).neighbors[j]});
    return graph;
  }

  comm::Communicator comm_ = comm::Communicator::world();
  test::TemporaryFolder own_;
  std::string path_;
  io::CsrLayout layout_;
};

/// From room for everything down to a few rows a piece.
constexpr std::int64_t kMemories[] = {std::int64_t{1} << 30, 3000, 1800};

TEST_F(Symmetrize, union_has_the_edges_of_either_end) {
  const Graph expected = undirected(nearest(), false);
  for (const std::int64_t memory : kMemories)
    EXPECT_EQ(symmetrized(Symmetry::either, memory), expected) << memory;
}

TEST_F(Symmetrize, mutual_has_the_edges_of_both_ends) {
  const Graph expected = undirected(nearest(), true);
  for (const std::int64_t memory : kMemories)
    EXPECT_EQ(symmetrized(Symmetry::both, memory), expected) << memory;
}

TEST_F(Symmetrize, too_little_memory_is_refused_with_the_numbers) {
  test::expect_error(
      ErrorKind::config, [&] { symmetrized(Symmetry::either, 40); }, "of the graph needs ", "40 B",
      "--memory");
}

TEST_F(Symmetrize, an_edge_to_no_row_is_refused) {
  if (comm_.is_root()) {
    const GlobalId id = kRows;
    const float distance = 0;
    io::CsrSlices(layout_).write_entries(5, {&id, 1}, {&distance, 1});
  }
  comm_.barrier();
  test::expect_error(
      ErrorKind::data, [&] { symmetrized(Symmetry::both, 1 << 20); }, "an edge to 60");
}

/// The last test: nothing takes back a stop that was asked for.
TEST_F(Symmetrize, stops_when_it_is_asked_to) {
  if (comm_.rank() + 1 == comm_.size()) request_stop(1);
  test::expect_error(ErrorKind::stopped, [&] { symmetrized(Symmetry::either, 1 << 20); });
}

TEST(Symmetry, has_names) {
  EXPECT_EQ(symmetry_from_string("mutual"), Symmetry::both);
  EXPECT_EQ(to_string(Symmetry::either), "union");
  test::expect_error(
      ErrorKind::usage, [] { symmetry_from_string("both"); }, "none, union, mutual");
}

}  // namespace
}  // namespace mpishards::rank

#include "rank/clusters.hpp"

#include <algorithm>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "merge/merge_strategy.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kEntryBytes = sizeof(GlobalId) + sizeof(float);
/// Of pairs that are read at once, and of links that root receives at once.
constexpr std::int64_t kLeastBlockBytes = 64 << 10;
constexpr std::int64_t kMostBlockBytes = 64 << 20;
/// Row starts that for_each_piece holds.
constexpr std::int64_t kMostStarts = (1 << 16) + 1;
/// Rows that are written at once.
constexpr std::int64_t kWrittenRows = 1 << 20;

/// What a rank knows of a row that has a row before it in its component.
struct Link {
  GlobalId row;
  GlobalId root;
  std::int64_t is_kept;
};

/// The components of the pairs seen so far: a tree each, in which every row points to a smaller one and the
/// smallest to itself.
class Forest {
 public:
  explicit Forest(std::int64_t rows) : parents_(narrow<std::size_t>(rows)), keep_(parents_.size(), 1) {
    std::iota(parents_.begin(), parents_.end(), GlobalId{0});
  }

  void add_pair(GlobalId a, GlobalId b) {
    keep_[static_cast<std::size_t>(std::max(a, b))] = 0;
    join(a, b);
  }
  void add_link(const Link& link) {
    if (link.is_kept == 0) keep_[static_cast<std::size_t>(link.row)] = 0;
    join(link.row, link.root);
  }

  /// Lets every row point to the smallest of its component.
  void flatten() {
    for (GlobalId& parent : parents_) parent = parents_[static_cast<std::size_t>(parent)];
  }
  /// @pre flattened
  std::span<const GlobalId> components() const { return parents_; }
  std::span<const std::uint8_t> keep() const { return keep_; }

  /// What others need to know of rows [begin, end). @pre flattened
  std::vector<Link> links(std::int64_t begin, std::int64_t end) const {
    std::vector<Link> links;
    for (std::int64_t row = begin; row < end; ++row) {
      const auto i = static_cast<std::size_t>(row);
      if (parents_[i] != row) links.push_back({row, parents_[i], keep_[i]});
    }
    return links;
  }

  /// Counts the components. Forgets them: there is no room for their sizes elsewhere. @pre flattened
  ClusterSummary count() {
    ClusterSummary summary;
    // The first row of a component comes before all others: from there on it holds the size, negated.
    for (std::size_t i = 0; i < parents_.size(); ++i) {
      const auto first = static_cast<std::size_t>(parents_[i]);
      parents_[first] = first == i ? -1 : parents_[first] - 1;
      const std::int64_t size = -parents_[first];
      if (size == 2) ++summary.clusters;
      summary.largest = std::max(summary.largest, size);
    }
    summary.removed = std::ranges::count(keep_, 0);
    return summary;
  }

 private:
  GlobalId root_of(GlobalId row) {
    auto at = static_cast<std::size_t>(row);
    while (parents_[at] != static_cast<GlobalId>(at)) {
      parents_[at] = parents_[static_cast<std::size_t>(parents_[at])];
      at = static_cast<std::size_t>(parents_[at]);
    }
    return static_cast<GlobalId>(at);
  }
  void join(GlobalId a, GlobalId b) {
    const GlobalId first = root_of(a);
    const GlobalId second = root_of(b);
    parents_[static_cast<std::size_t>(std::max(first, second))] = std::min(first, second);
  }

  std::vector<GlobalId> parents_;
  std::vector<std::uint8_t> keep_;
};

void add_pairs(const io::CsrSlices& matrix, merge::Slice mine, std::int64_t block_entries, Forest& forest) {
  const std::int64_t rows = matrix.shape().rows;
  const auto add = [&](std::int64_t row, ConstNeighborRow entries) {
    for (const GlobalId id : entries.neighbors) {
      if (id < 0 || id >= rows)
        throw Error(ErrorKind::data, matrix.name() + " pairs row " + std::to_string(row) + " with " +
                                         std::to_string(id) + ", expected a row below " +
                                         std::to_string(rows));
      forest.add_pair(row, id);
    }
  };
  io::for_each_piece(matrix, mine.begin, mine.end, block_entries, add);
}

/// Adds the others' forests to root's. @param window_rows  whose links root receives at once
void gather_forests(const comm::Communicator& comm, std::int64_t rows, std::int64_t window_rows,
                    Forest& forest) {
  for (std::int64_t begin = 0; begin < rows; begin += window_rows) {
    std::vector<Link> mine;
    comm::agree(comm, [&] {
      if (!comm.is_root()) mine = forest.links(begin, std::min(rows, begin + window_rows));
    });
    const std::vector<std::int64_t> counts = comm.all_gather(std::ssize(mine));
    std::vector<Link> all;
    comm::agree(comm, [&] {
      if (comm.is_root())
        all.resize(narrow<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
    });
    comm.gather_records<Link>(mine, counts, all);
    for (const Link& link : all) forest.add_link(link);
  }
}

void write(const io::CsrSlices& matrix, const Forest& forest) {
  const std::int64_t rows = matrix.shape().rows;
  for (std::int64_t begin = 0; begin < rows; begin += kWrittenRows) {
    const auto first = static_cast<std::size_t>(begin);
    const auto count = static_cast<std::size_t>(std::min(kWrittenRows, rows - begin));
    matrix.write_components(begin, forest.components().subspan(first, count));
    matrix.write_keep(begin, forest.keep().subspan(first, count));
  }
  matrix.sync();
}

}  // namespace

std::int64_t cluster_bytes(std::int64_t rows) {
  return rows * kClusterBytesPerRow +
         std::min(rows + 1, kMostStarts) * static_cast<std::int64_t>(sizeof(std::int64_t)) + kLeastBlockBytes;
}

ClusterSummary find_clusters(const io::CsrSlices& matrix, std::int64_t memory_bytes,
                             const comm::Communicator& comm) {
  const std::int64_t rows = matrix.shape().rows;
  const std::int64_t block_bytes =
      std::min(memory_bytes - cluster_bytes(rows) + kLeastBlockBytes, kMostBlockBytes);
  const std::int64_t link_bytes = comm.size() * static_cast<std::int64_t>(sizeof(Link));
  Forest forest(0);
  comm::agree(comm, [&] {
    forest = Forest(rows);
    add_pairs(matrix, merge::slice_of(rows, comm.rank(), comm.size()), block_bytes / kEntryBytes, forest);
    forest.flatten();
  });
  gather_forests(comm, rows, std::max<std::int64_t>(1, block_bytes / link_bytes), forest);
  ClusterSummary summary;
  comm::agree(comm, [&] {
    if (!comm.is_root()) return;
    forest.flatten();
    write(matrix, forest);
    summary = forest.count();
  });
  return summary;
}

}  // namespace mpishards::rank

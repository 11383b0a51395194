#include "rank/symmetrize.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/topk.hpp"
#include "io/range.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/job_plan.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kIdBytes = sizeof(GlobalId);
constexpr std::int64_t kEntryBytes = sizeof(GlobalId) + sizeof(float);
/// Of the directed graph, read at once.
constexpr std::int64_t kMaxBlockBytes = 64 << 20;

constexpr std::array<std::string_view, 3> kNames = {"none", "union", "mutual"};

/// A run of rows whose new entries are collected at once.
struct Piece {
  io::Range rows;
  std::vector<GlobalId> targets;  // k a row: the ids of its own entries, increasing
};

/// Entries of a piece's rows, as they arrive.
struct Entries {
  std::vector<std::int64_t> begins;  // of each row within the piece, and the end
  std::vector<std::int64_t> ends;    // of what has arrived
  std::vector<GlobalId> ids;
  std::vector<float> distances;

  Entries() = default;
  explicit Entries(std::span<const std::int64_t> counts) : begins(counts.size() + 1) {
    std::partial_sum(counts.begin(), counts.end(), begins.begin() + 1);
    ends.assign(begins.begin(), begins.end() - 1);
    ids.resize(narrow<std::size_t>(begins.back()));
    distances.resize(ids.size());
  }
  void add(std::int64_t row, GlobalId id, float distance) {
    const auto place = static_cast<std::size_t>(ends[static_cast<std::size_t>(row)]++);
    ids.at(place) = id;  // checked: the graph could have changed since its edges were counted
    distances[place] = distance;
  }
};

/// Called with an edge that ends in the piece at hand. The distance is 0 where distances are not read.
using EdgeVisitor = std::function<void(GlobalId from, GlobalId to, float distance)>;

class Symmetrizer {
 public:
  Symmetrizer(const SymmetrizeTask& task, const comm::Communicator& comm)
      : task_(task),
        comm_(comm),
        rows_(task.directed->shape().rows),
        k_(rows_ == 0 ? 0 : task.directed->shape().nnz / rows_),
        mine_(merge::slice_of(rows_, comm.rank(), comm.size())) {
    const std::int64_t row_bytes = std::max<std::int64_t>(1, k_ * kEntryBytes);
    block_rows_ = std::max<std::int64_t>(1, std::min(kMaxBlockBytes, task.memory_bytes / 4) / row_bytes);
    piece_bytes_ = task.memory_bytes - block_rows_ * row_bytes - mine_.size() * kIdBytes;
  }

  std::int64_t run() {
    comm::agree(comm_, [&] { counts_.resize(narrow<std::size_t>(mine_.size())); });
    for_pieces(&Symmetrizer::counted_piece, &Symmetrizer::count_piece);
    create();
    for_pieces(&Symmetrizer::written_piece, &Symmetrizer::write_piece);
    comm::agree(comm_, [&] { out_->sync(); });
    return out_->shape().nnz;
  }

 private:
  std::span<const std::int64_t> counts_of(io::Range rows) const {
    return std::span(counts_).subspan(static_cast<std::size_t>(rows.begin - mine_.begin),
                                      static_cast<std::size_t>(rows.end - rows.begin));
  }
  std::int64_t own_bytes() const { return k_ * kIdBytes; }
  std::int64_t written_bytes(std::int64_t row) const {
    const std::int64_t entries = counts_[static_cast<std::size_t>(row - mine_.begin)];
    return own_bytes() + 2 * kIdBytes + entries * kEntryBytes;
  }

  /// @throws Error{config}
  void require_memory(std::int64_t row, std::int64_t bytes) const {
    if (bytes <= piece_bytes_) return;
    throw Error(ErrorKind::config, "row " + std::to_string(row) + " of the graph needs " +
                                       format_bytes(task_.memory_bytes - piece_bytes_ + bytes) +
                                       " to be symmetrised, a rank may hold " +
                                       format_bytes(task_.memory_bytes) +
                                       "; raise --memory or use more ranks");
  }

  /// The rows from `begin` on whose edges can be counted at once.
  io::Range counted_piece(std::int64_t begin) const {
    require_memory(begin, own_bytes());
    return {begin, std::min(mine_.end, begin + piece_bytes_ / std::max<std::int64_t>(1, own_bytes()))};
  }
  /// The rows from `begin` on whose entries can be held at once.
  io::Range written_piece(std::int64_t begin) const {
    require_memory(begin, written_bytes(begin));
    io::Range rows = {begin, begin};
    for (std::int64_t bytes = 0; rows.end < mine_.end; ++rows.end) {
      bytes += written_bytes(rows.end);
      if (bytes > piece_bytes_) break;
    }
    return rows;
  }

  /// Takes this rank's pieces one after the other. Ranks with fewer pieces wait for the others.
  void for_pieces(io::Range (Symmetrizer::*piece_at)(std::int64_t) const,
                  void (Symmetrizer::*take)(const Piece&)) {
    for (std::int64_t begin = mine_.begin; comm_.max(std::int64_t{begin < mine_.end}) > 0;) {
      Piece piece;
      comm::agree(comm_, [&] {
        piece.rows = begin < mine_.end ? (this->*piece_at)(begin) : io::Range{begin, begin};
        load_targets(piece);
      });
      (this->*take)(piece);
      begin = piece.rows.end;
    }
  }

  void load_targets(Piece& piece) const {
    piece.targets.resize(narrow<std::size_t>((piece.rows.end - piece.rows.begin) * k_));
    task_.directed->read_entries(piece.rows.begin * k_, piece.targets, {});
    for (auto row = piece.targets.begin(); row != piece.targets.end(); row += k_) std::sort(row, row + k_);
  }

  bool has_edge(const Piece& piece, GlobalId from, GlobalId to) const {
    const auto row = piece.targets.begin() + (from - piece.rows.begin) * k_;
    return std::binary_search(row, row + k_, to);
  }

  /// Reads the whole graph for edges into the piece that its own rows do not have (either) or have (both):
  /// each makes an entry there.
  void for_edges_into(const Piece& piece, bool with_distances, const EdgeVisitor& visit) const {
    std::vector<GlobalId> ids;
    std::vector<float> distances;
    for (std::int64_t begin = 0; begin < rows_; begin += block_rows_) {
      const std::int64_t end = std::min(rows_, begin + block_rows_);
      comm::agree(comm_, [&] {
        if (stop_level() > 0) throw Error(ErrorKind::stopped, "stopped while the graph was symmetrised");
        if (piece.rows.begin == piece.rows.end) return;
        ids.resize(narrow<std::size_t>((end - begin) * k_));
        distances.resize(with_distances ? ids.size() : 0);
        task_.directed->read_entries(begin * k_, ids, distances);
        visit_block(piece, begin, ids, distances, visit);
      });
    }
  }

  void visit_block(const Piece& piece, std::int64_t first_row, std::span<const GlobalId> ids,
                   std::span<const float> distances, const EdgeVisitor& visit) const {
    const bool wanted = task_.symmetry == Symmetry::both;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const GlobalId to = ids[i];
      if (to >= rows_)
        throw Error(ErrorKind::data, task_.directed->name() + " has an edge to " + std::to_string(to) +
                                         ", expected a row below " + std::to_string(rows_));
      if (to < piece.rows.begin || to >= piece.rows.end) continue;
      const GlobalId from = first_row + static_cast<std::int64_t>(i) / k_;
      if (has_edge(piece, to, from) == wanted) visit(from, to, distances.empty() ? 0.0F : distances[i]);
    }
  }

  void count_piece(const Piece& piece) {
    std::int64_t* const counts = counts_.data() + (piece.rows.begin - mine_.begin);
    if (task_.symmetry == Symmetry::either)
      for (std::size_t i = 0; i < piece.targets.size(); ++i)
        counts[static_cast<std::int64_t>(i) / k_] += piece.targets[i] != kNoNeighbor ? 1 : 0;
    for_edges_into(piece, false, [&](GlobalId, GlobalId to, float) { ++counts[to - piece.rows.begin]; });
  }

  /// The file, and this rank's part of the row starts.
  void create() {
    const std::int64_t entries = std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0});
    const std::vector<std::int64_t> all = comm_.all_gather(entries);
    const std::int64_t nnz = std::accumulate(all.begin(), all.end(), std::int64_t{0});
    first_entry_ = std::accumulate(all.begin(), all.begin() + comm_.rank(), std::int64_t{0});
    std::string layout;
    comm::agree(comm_, [&] {
      if (comm_.is_root()) layout = io::create_csr(task_.out_path, {rows_, rows_, nnz}).serialize();
    });
    comm_.broadcast_text(layout);
    comm::agree(comm_, [&] {
      out_ = std::make_unique<io::CsrSlices>(io::CsrLayout::deserialize(layout));
      write_starts();
    });
  }

  void write_starts() const {
    constexpr std::int64_t kStarts = 1 << 12;
    std::vector<std::int64_t> starts;
    std::int64_t start = first_entry_;
    for (std::int64_t row = mine_.begin; row < mine_.end; row += std::ssize(starts)) {
      starts.clear();
      for (const std::int64_t count : counts_of({row, std::min(mine_.end, row + kStarts)})) {
        starts.push_back(start);
        start += count;
      }
      out_->write_offsets(row, starts);
    }
    if (comm_.rank() + 1 == comm_.size()) out_->write_offsets(rows_, std::array{start});
  }

  void write_piece(const Piece& piece) {
    Entries entries;
    comm::agree(comm_, [&] {
      entries = Entries(counts_of(piece.rows));
      if (task_.symmetry == Symmetry::either) add_own(piece, entries);
    });
    for_edges_into(piece, true, [&](GlobalId from, GlobalId to, float distance) {
      entries.add(to - piece.rows.begin, from, distance);
    });
    comm::agree(comm_, [&] {
      if (entries.ends != std::vector(entries.begins.begin() + 1, entries.begins.end()))
        throw Error(ErrorKind::internal, task_.directed->name() + " changed while it was symmetrised");
      for (std::size_t row = 0; row < entries.ends.size(); ++row) sort_row(entries, row);
      out_->write_entries(first_entry_, entries.ids, entries.distances);
    });
    first_entry_ += std::ssize(entries.ids);
  }

  void add_own(const Piece& piece, Entries& entries) const {
    std::vector<GlobalId> ids;
    std::vector<float> distances;
    for (std::int64_t begin = piece.rows.begin; begin < piece.rows.end; begin += block_rows_) {
      const std::int64_t end = std::min(piece.rows.end, begin + block_rows_);
      ids.resize(narrow<std::size_t>((end - begin) * k_));
      distances.resize(ids.size());
      task_.directed->read_entries(begin * k_, ids, distances);
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] != kNoNeighbor)
          entries.add(begin - piece.rows.begin + static_cast<std::int64_t>(i) / k_, ids[i], distances[i]);
    }
  }

  void sort_row(Entries& entries, std::size_t row) {
    const auto begin = static_cast<std::size_t>(entries.begins[row]);
    const auto length = static_cast<std::size_t>(entries.begins[row + 1]) - begin;
    sorted_.resize(length);
    for (std::size_t i = 0; i < length; ++i)
      sorted_[i] = {entries.ids[begin + i], entries.distances[begin + i]};
    std::ranges::sort(sorted_, [closer = Closer(task_.metric)](const auto& a, const auto& b) {
      return closer(a.first, a.second, b.first, b.second);
    });
    for (std::size_t i = 0; i < length; ++i)
      std::tie(entries.ids[begin + i], entries.distances[begin + i]) = sorted_[i];
  }

  const SymmetrizeTask& task_;
  const comm::Communicator& comm_;
  std::int64_t rows_;
  std::int64_t k_;
  merge::Slice mine_;
  std::vector<std::int64_t> counts_;  // new entries of each row of mine
  std::int64_t block_rows_ = 1;
  std::int64_t piece_bytes_ = 0;
  std::unique_ptr<io::CsrSlices> out_;
  std::int64_t first_entry_ = 0;  // of the next piece to be written
  std::vector<std::pair<GlobalId, float>> sorted_;
};

}  // namespace

std::string_view to_string(Symmetry symmetry) {
  return kNames[static_cast<std::size_t>(symmetry)];
}

Symmetry symmetry_from_string(std::string_view text) {
  for (const Symmetry symmetry : {Symmetry::directed, Symmetry::either, Symmetry::both})
    if (to_string(symmetry) == text) return symmetry;
  throw Error(ErrorKind::usage,
              "unknown symmetrisation '" + std::string(text) + "'; known: none, union, mutual");
}

std::int64_t symmetrize(const SymmetrizeTask& task, const comm::Communicator& comm) {
  return Symmetrizer(task, comm).run();
}

}  // namespace mpishards::rank

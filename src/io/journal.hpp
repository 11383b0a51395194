#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/topk.hpp"
#include "io/file.hpp"
#include "io/range.hpp"
#include "io/results_writer.hpp"

namespace mpishards::io {

/// Exclusive right to write one output. flock on OUT.lock, which vanishes with the process that held it and
/// is removed at release. Where the file system has no locks, nothing is exclusive, and is_exclusive() says
/// so.
class OutputLock {
 public:
  OutputLock() = default;
  /// @throws Error{cannot_create} naming host and process of the holder
  static OutputLock acquire(const std::string& out_path, OutputKind kind = OutputKind::file);
  OutputLock(OutputLock&&) noexcept = default;
  OutputLock& operator=(OutputLock&&) noexcept = default;
  ~OutputLock();

  bool is_exclusive() const { return is_exclusive_; }

 private:
  File file_;
  bool is_exclusive_ = false;
};

/// Smallest ranges of [0, count) that none of some sorted disjoint ranges covers.
std::vector<Range> ranges_between(const std::vector<Range>& ranges, std::int64_t count);

/// Progress of a run, in OUT.journal: one JSON record a line, each with its own checksum; a torn last line is
/// ignored.
///
/// The first record is the run's identity (parameters and inputs as name = value), the others say which
/// queries are finished in OUT.partial or which rows of the base the checkpoint of a pass has seen. Every
/// record is synced before the call returns, after the data that it speaks of. Used by rank 0 alone.
class Journal {
 public:
  using Identity = std::vector<std::pair<std::string, std::string>>;

  /// Starts a new journal. @throws Error{cannot_create|io}
  static Journal create(const std::string& out_path, const Identity& identity);
  /// Continues one. @throws Error{config} naming every difference in identity ("k was 10, is 100") and the
  /// remedy (same parameters, or --no-resume to start over); Error{data} if the first record is damaged
  static Journal resume(const std::string& out_path, const Identity& identity);
  static bool exists(const std::string& out_path);
  static void remove(const std::string& out_path);

  Journal(Journal&&) noexcept = default;
  Journal& operator=(Journal&&) noexcept = default;

  /// Queries whose final answers are in OUT.partial, as sorted disjoint ranges.
  const std::vector<Range>& finished() const { return finished_; }
  /// Smallest ranges of [0, nq) that are not finished.
  std::vector<Range> unfinished(std::int64_t nq) const;
  void finish(Range queries);

  /// How often this output was continued, this time included.
  int resumes() const { return resumes_; }

  /// A saved state: answers of `queries` over the base rows [0, rows_done).
  struct Checkpoint {
    Range queries;
    std::int64_t rows_done = 0;
    // Queries [queries.begin, ahead_end) have seen more: the rows [0, ahead_rows).
    std::int64_t ahead_end = 0;
    std::int64_t ahead_rows = 0;
    int slot = 0;  // 0 or 1: which of the two checkpoint files
  };
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }
  void record_checkpoint(const Checkpoint& checkpoint);

  /// A part of the answer to a search without k, in OUT.hits: what one rank found.
  struct Part {
    std::int64_t offset_bytes = 0;
    std::int64_t hits = 0;
  };
  /// Everything that some queries have in some rows of the base.
  struct Block {
    Range rows;
    Range queries;
    std::vector<Part> parts;
  };
  const std::vector<Block>& blocks() const { return blocks_; }
  void record_block(const Block& block);

  /// A step of a job that takes several over the same rows: which rows are done, and the sums modulo 2^64
  /// of the hashes that were recorded with them.
  struct Step {
    std::vector<Range> rows;  // sorted, disjoint
    std::vector<std::uint64_t> hashes;
  };
  /// Empty where nothing of a step is done.
  Step step(const std::string& name) const;
  void record_step(const std::string& name, Range rows, const std::vector<std::uint64_t>& hashes);

  /// Whether the whole result lies in OUT.partial, or in OUT already.
  bool is_publishing() const { return is_publishing_; }
  void record_publishing();

  /// Sum of row hashes of a whole input ("base", "queries"), known once it was read in full.
  std::optional<std::uint64_t> content_hash(const std::string& input) const;
  void record_content_hash(const std::string& input, std::uint64_t hash);

  /// Entries of the undirected graph that is to take the place of the directed one in OUT.partial: it is
  /// whole on disk. Nothing while there is none.
  const std::optional<std::int64_t>& symmetrized_entries() const { return symmetrized_entries_; }
  void record_symmetrized(std::int64_t entries);

 private:
  Journal() = default;
  void append(const std::string& record_json);
  void apply(const std::string& record_json);

  File file_;
  std::int64_t end_ = 0;
  std::vector<Range> finished_;
  std::optional<Checkpoint> checkpoint_;
  std::vector<std::pair<std::string, std::uint64_t>> content_hashes_;
  std::vector<Block> blocks_;
  std::map<std::string, Step> steps_;
  bool is_publishing_ = false;
  std::optional<std::int64_t> symmetrized_entries_;
  int resumes_ = 0;
};

/// OUT.checkpoint.0 and .1, laid out like a result of `queries.end - queries.begin` rows: written and read by
/// slices with ResultSlices, alternately, so that one whole state survives a crash in the middle of writing
/// the other.
ResultLayout checkpoint_layout(const std::string& out_path, int slot, std::int64_t nq, std::int64_t k);
void remove_checkpoints(const std::string& out_path);

}  // namespace mpishards::io

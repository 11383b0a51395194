#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/range_hits.hpp"
#include "io/csr_file.hpp"
#include "io/file.hpp"
#include "io/journal.hpp"
#include "rank/job_inputs.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// The unfinished output of a search without k: what the ranks found, block by block in OUT.hits, the journal
/// that says which blocks are whole, and the lock; at the end the sparse matrix that they are joined to.
/// Root alone keeps lock and journal. All members are collective unless they say otherwise.
class RangeOutput {
 public:
  /// Takes the lock, and continues what a stopped run left or starts anew.
  /// @throws Error{cannot_create|config|...}, the same on every rank; nothing that existed is changed then
  RangeOutput(const SearchJobConfig& config, const JobInputs& inputs, const comm::Communicator& comm);

  /// Blocks that are whole, those of earlier runs included.
  const std::vector<io::Journal::Block>& blocks() const { return blocks_; }
  /// True where the result has its name already: a run was killed while it cleaned up.
  bool is_published() const { return is_published_; }
  int resumes() const { return resumes_; }
  /// On root: false where the file system has no locks.
  bool is_locked() const { return lock_ && lock_->is_exclusive(); }

  /// Writes what this rank found for `queries` among `rows`, and records the block once all ranks' parts are
  /// on disk.
  void add_block(io::Range rows, io::Range queries, const RangeHits& hits);

  /// Joins the blocks to OUT.partial: every rank fills contiguous rows, each sorted by Closer.
  /// @param shape  but for the rows and the entries
  /// @param max_entries  that one rank may hold @throws Error{config} where one row has more
  void assemble(Metric metric, const io::CsrShape& shape, std::int64_t max_entries);
  /// The matrix in OUT.partial. Not collective. @pre assembled
  const io::CsrSlices& matrix() const { return *matrix_; }

  /// Root only, see io::Journal.
  std::optional<std::uint64_t> content_hash(const std::string& name) const {
    return journal_->content_hash(name);
  }
  void record_content_hash(const std::string& name, std::uint64_t hash) {
    journal_->record_content_hash(name, hash);
  }

  /// Not collective: after a failure, removes an unfinished output that holds nothing worth continuing.
  void discard_if_empty();

  /// Gives the assembled matrix its name, unless it has it, and removes everything beside it.
  void publish(const io::Attributes& attributes);

 private:
  void open_on_root(const SearchJobConfig& config, const JobInputs& inputs);
  void start_anew(const io::Journal::Identity& identity);
  void share_state();
  std::vector<std::int64_t> count_hits(io::Range rows) const;
  io::CsrRows read_rows(io::Range rows, std::span<const std::int64_t> counts, Metric metric) const;
  template <class Visit>
  void for_each_run(io::Range rows, std::int64_t max_entries, Visit visit) const;

  const comm::Communicator& comm_;
  std::string path_;
  std::int64_t nq_ = 0;
  std::optional<io::OutputLock> lock_;
  std::optional<io::Journal> journal_;
  io::File hits_;
  std::int64_t end_bytes_ = 0;  // of the last whole block
  std::vector<io::Journal::Block> blocks_;
  std::optional<io::CsrSlices> matrix_;
  bool is_published_ = false;
  int resumes_ = 0;
};

}  // namespace mpishards::rank

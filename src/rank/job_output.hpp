#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/topk.hpp"
#include "io/csr_file.hpp"
#include "io/journal.hpp"
#include "io/results_writer.hpp"
#include "rank/job_inputs.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// The unfinished output of a job: result file, journal, checkpoints and lock. Every rank writes its own
/// slices; root alone keeps lock and journal. All members are collective unless they say otherwise.
class JobOutput {
 public:
  /// Takes the lock, and continues what a stopped run left or starts anew.
  /// @throws Error{cannot_create|config|...}, the same on every rank; nothing that existed is changed then
  JobOutput(const SearchJobConfig& config, const JobInputs& inputs, const JobShape& shape,
            const comm::Communicator& comm);

  /// Result rows that are still to be searched, sorted and disjoint.
  const std::vector<io::Range>& unfinished() const { return unfinished_; }
  /// State of a streamed pass that a stopped run left; its queries are a part of unfinished().
  const std::optional<io::Journal::Checkpoint>& checkpoint() const { return checkpoint_; }
  int resumes() const { return resumes_; }
  /// What earlier runs left, for people: "300 of 1000 queries are answered"; empty where there was none.
  std::string resumed_text() const;
  /// On root: false where the file system has no locks, so that nothing keeps a second job from this output.
  bool is_locked() const { return lock_ && lock_->is_exclusive(); }

  /// Not collective: writes rows that this rank owns.
  void write(std::int64_t first_row, const TopK& rows) const { slices_->write(first_row, rows); }
  /// Syncs what the ranks wrote and records it.
  void finish(io::Range rows);

  /// Not collective: rows that this rank owns of a saved pass.
  TopK read_checkpoint(std::int64_t first_row, std::int64_t nq, Metric metric) const;
  /// Saves the running answers of a pass. @param slices  this rank's rows: first row in the result, answers
  void save_checkpoint(const io::Journal::Checkpoint& state,
                       const std::vector<std::pair<std::int64_t, const TopK*>>& slices);

  /// Root only: sum of row hashes known so far under a name, and recording it.
  std::optional<std::uint64_t> content_hash(const std::string& name) const {
    return journal_->content_hash(name);
  }
  void record_content_hash(const std::string& name, std::uint64_t hash) {
    journal_->record_content_hash(name, hash);
  }

  const io::ResultSlices& slices() const { return *slices_; }

  /// Where a graph's undirected form is made, as the output of that name; see replace_by_symmetrized.
  std::string symmetrized_path() const;
  /// Whether the unfinished output is already the undirected graph.
  bool is_symmetrized() const { return is_symmetrized_; }
  /// The directed graph, all of whose rows are finished. Not collective.
  io::CsrSlices directed_graph() const;
  /// The undirected graph, whole and synced, takes the place of the directed one.
  void replace_by_symmetrized(std::int64_t entries);

  /// Not collective: after a failure, removes an unfinished output that holds nothing worth continuing.
  void discard_if_empty();

  /// Sets the attributes, gives the result its name and removes journal, checkpoints and lock.
  void publish(const io::Attributes& attributes);

 private:
  void open_on_root(const SearchJobConfig& config, const JobInputs& inputs, const JobShape& shape);
  void continue_stopped_run(const JobShape& shape, const io::Journal::Identity& identity);
  void adopt_symmetrized(std::int64_t entries);
  void start_anew(const JobInputs& inputs, const JobShape& shape, const io::Journal::Identity& identity);

  const comm::Communicator& comm_;
  std::string path_;
  io::ResultFormat format_;
  std::int64_t nq_;
  std::int64_t k_;
  std::int64_t searched_k_;
  io::ResultLayout layout_;
  std::optional<io::OutputLock> lock_;
  std::optional<io::Journal> journal_;
  std::optional<io::ResultSlices> slices_;
  std::vector<io::Range> unfinished_;
  std::optional<io::Journal::Checkpoint> checkpoint_;
  bool is_symmetrized_ = false;
  int resumes_ = 0;
};

/// Whether a job may write its output at all; touches nothing. @throws Error{cannot_create|permission} if it
/// has no place or exists and may not be replaced, Error{usage} if it is an input
void refuse_output(const SearchJobConfig& config);

/// What must be the same for a run to be continued, as name = value.
io::Journal::Identity identity_of(const SearchJobConfig& config, const JobInputs& inputs);

/// Identities of the files behind some inputs, as JSON text.
std::string identities_json(const std::vector<io::InputSpec>& specs);

}  // namespace mpishards::rank

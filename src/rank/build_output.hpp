#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "io/index_directory.hpp"
#include "io/index_files.hpp"
#include "io/journal.hpp"
#include "rank/job_inputs.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// The steps of a build that a journal knows.
inline constexpr const char* kTrained = "trained";    // rows of the sample; hash of what they trained
inline constexpr const char* kAssigned = "assigned";  // rows of the base; their hash by row number
inline constexpr const char* kPlaced = "placed";      // the same; their hashes by row number and by id
inline constexpr const char* kCodec = "codec";        // rows of its sample; hash of the parameters
inline constexpr const char* kEncoded = "encoded";    // places; hash of their codes by place
inline constexpr const char* kIndexed = "indexed";    // shards; sum of the hashes of their files

/// Whether a build may write its index at all; touches nothing. @throws Error{cannot_create|permission} if it
/// has no place, or exists and may not be replaced; Error{usage} if an input lies in it
void refuse_index_output(const SearchJobConfig& config);

/// The unfinished index of a job: DIR.partial, DIR.journal and DIR.lock. Every rank writes its own parts;
/// root alone keeps lock and journal. All members are collective unless they say otherwise.
class BuildOutput {
 public:
  /// Takes the lock, and continues what a stopped run left or starts anew.
  /// @throws Error{cannot_create|config|...}, the same on every rank; nothing that existed is changed then
  BuildOutput(const SearchJobConfig& config, const JobInputs& inputs, const io::IndexShape& shape,
              const comm::Communicator& comm);

  /// Not collective: the files, all of whose parts that a step has recorded are whole.
  io::IndexFiles& files() { return *files_; }
  /// Not collective: rows of [0, count) that are still to be done.
  std::vector<io::Range> unfinished(const std::string& step, std::int64_t count) const;
  /// Not collective: sums over all rows that are done.
  const std::vector<std::uint64_t>& hashes(const std::string& step) const;
  /// Records what every rank has done of a step since the last time. @param rows  this rank's, may be empty
  /// @pre what was written for them is synced
  void record(const std::string& step, io::Range rows, const std::vector<std::uint64_t>& hashes);

  /// True where the index has its name already: a run was killed while it cleaned up.
  bool is_published() const { return is_published_; }
  int resumes() const { return resumes_; }
  /// What earlier runs left, for people; empty where there was none.
  std::string resumed_text() const;
  /// On root: false where the file system has no locks.
  bool is_locked() const { return lock_ && lock_->is_exclusive(); }

  /// Writes the manifest, unless the index is published, gives it its name, and removes all that lies beside
  /// it. An index that has the name is moved away first and removed last.
  void publish(const io::IndexManifest& manifest);

  /// Not collective: after a failure, removes an unfinished index that holds nothing worth continuing.
  void discard_if_empty();

 private:
  void open_on_root(const SearchJobConfig& config, const JobInputs& inputs, const io::IndexShape& shape);
  void start_anew(const io::Journal::Identity& identity, const io::IndexShape& shape);
  void share_state();
  void take_name() const;
  void publish_on_root(const io::IndexManifest& manifest);

  const comm::Communicator& comm_;
  std::string path_;
  std::int64_t rows_ = 0;
  std::optional<io::OutputLock> lock_;
  std::optional<io::Journal> journal_;
  io::IndexLayout layout_;
  std::optional<io::IndexFiles> files_;
  std::map<std::string, io::Journal::Step> steps_;
  bool is_published_ = false;
  int resumes_ = 0;
};

}  // namespace mpishards::rank

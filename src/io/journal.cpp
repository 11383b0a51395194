#include "io/journal.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/narrow.hpp"

namespace mpishards::io {

namespace {

using nlohmann::json;

std::string journal_path(const std::string& out_path) {
  return out_path + ".journal";
}

// --- records
// ----------------------------------------------------------------------------------------------------------

constexpr std::string_view kBeforeChecksum = R"({"xxh3":")";
constexpr std::string_view kBeforeRecord = R"(","record":)";
constexpr std::string_view kAfterRecord = "}\n";
constexpr std::size_t kChecksumDigits = 16;

/// A record as it stands in the file: one line that is itself JSON.
std::string line_of(const std::string& record_json) {
  return std::string(kBeforeChecksum) + hex(XXH3_64bits(record_json.data(), record_json.size())) +
         std::string(kBeforeRecord) + record_json + std::string(kAfterRecord);
}

/// The record of one line with its line end; empty unless every byte is as line_of wrote it.
std::optional<json> parse_line(std::string_view line) {
  constexpr std::size_t kBefore = kBeforeChecksum.size() + kChecksumDigits + kBeforeRecord.size();
  if (line.size() < kBefore + kAfterRecord.size()) return std::nullopt;
  const std::string record(line.substr(kBefore, line.size() - kBefore - kAfterRecord.size()));
  if (line != line_of(record)) return std::nullopt;
  json parsed = json::parse(record, nullptr, false);
  if (parsed.is_discarded()) return std::nullopt;
  return parsed;
}

struct Replay {
  std::vector<json> records;
  std::int64_t good_bytes = 0;
};

/// True for what a crash can leave of a line that was being written: its beginning, or blocks without their
/// data.
bool is_torn(std::string_view line) {
  return !line.ends_with('\n') || line.find('\0') != std::string_view::npos;
}

/// All whole records; a torn line may follow the last one.
/// @throws Error{data} naming the line that is damaged
Replay replay(const std::string& path, std::string_view text) {
  Replay result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t line_end = text.find('\n', at);
    const std::size_t next = line_end == std::string_view::npos ? text.size() : line_end + 1;
    std::optional<json> record = parse_line(text.substr(at, next - at));
    if (!record && (next < text.size() || !is_torn(text.substr(at))))
      throw Error(ErrorKind::data, path + " is damaged in line " + std::to_string(result.records.size() + 1) +
                                       " (byte " + std::to_string(at) +
                                       "): its checksum does not fit; --no-resume starts over");
    if (!record) break;
    result.records.push_back(std::move(*record));
    at = next;
  }
  if (result.records.empty())
    throw Error(ErrorKind::data, path + " has no whole first record; --no-resume starts over");
  result.good_bytes = narrow<std::int64_t>(at);
  return result;
}

json identity_record(const Journal::Identity& identity) {
  return {{"type", "identity"}, {"identity", identity}};
}

std::string value_or_absent(const Journal::Identity& identity, const std::string& name) {
  const auto found = std::ranges::find(identity, name, &std::pair<std::string, std::string>::first);
  return found == identity.end() ? "absent" : found->second;
}

/// "k was 10, is 100; metric was l2, is ip", empty where both are the same.
std::string differences(const Journal::Identity& before, const Journal::Identity& now) {
  std::vector<std::string> names;
  for (const Journal::Identity* identity : {&before, &now})
    for (const auto& [name, value] : *identity)
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  std::string text;
  for (const std::string& name : names) {
    const std::string old_value = value_or_absent(before, name);
    const std::string new_value = value_or_absent(now, name);
    if (old_value != new_value)
      text += (text.empty() ? "" : "; ") + name + " was " + old_value + ", is " + new_value;
  }
  return text;
}

void check_identity(const std::string& path, const json& record, const Journal::Identity& now) {
  if (record.value("type", "") != "identity")
    throw Error(ErrorKind::data,
                path + " does not begin with the identity of its run; --no-resume starts over");
  const std::string changed = differences(record.at("identity").get<Journal::Identity>(), now);
  if (!changed.empty())
    throw Error(ErrorKind::config, "can't resume from " + path + ", this is another run: " + changed +
                                       "; use the same parameters and inputs, or --no-resume to start over");
}

void insert_range(std::vector<Range>& ranges, Range added) {
  if (added.begin >= added.end) return;
  std::vector<Range> joined;
  for (const Range& range : ranges) {
    if (range.end < added.begin || range.begin > added.end) {
      joined.push_back(range);
    } else {
      added = {std::min(range.begin, added.begin), std::max(range.end, added.end)};
    }
  }
  joined.insert(std::ranges::upper_bound(joined, added.begin, {}, &Range::begin), added);
  ranges = std::move(joined);
}

}  // namespace

// --- lock
// -------------------------------------------------------------------------------------------------------------

namespace {

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// "process 4711 on host node3, started 2026-...", or what can be said when the file is still empty.
std::string holder_of(const File& file) {
  std::string text(narrow<std::size_t>(std::min<std::int64_t>(file.size_bytes(), 4096)), '\0');
  if (!text.empty()) file.read_at(0, text.data(), text.size());
  const json holder = json::parse(text, nullptr, false);
  if (!holder.is_object()) return "another process";
  return "process " + std::to_string(holder.value("pid", 0)) + " on host " + holder.value("host", "unknown") +
         ", started " + holder.value("started", "at an unknown time");
}

/// True if `path` still names the file that is open: its last holder may have removed it in between.
bool is_still_named(const File& file, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(file.get(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/// What flock says where the file system has no locks, as on Lustre mounted without them.
bool means_no_locks(int error_number) {
  return error_number == ENOSYS || error_number == ENOLCK || error_number == EOPNOTSUPP ||
         error_number == EINVAL;
}

/// Whether the lock was taken; false where the file system has none.
bool lock_or_throw(const File& file, const std::string& out_path) {
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (means_no_locks(errno)) return false;
    if (errno == EWOULDBLOCK)
      throw Error(ErrorKind::cannot_create, "output " + out_path + " is being written by " + holder_of(file) +
                                                "; wait for it, stop it, or choose another output");
    throw Error(ErrorKind::cannot_create, "can't lock " + file.path() + ": " + std::strerror(errno));
  }
  return true;
}

}  // namespace

OutputLock OutputLock::acquire(const std::string& out_path, OutputKind kind) {
  require_output_place(out_path, kind);
  const std::string path = out_path + ".lock";
  for (;;) {
    OutputLock lock;
    File file = File::open_write(path, false);
    lock.is_exclusive_ = lock_or_throw(file, out_path);
    if (!is_still_named(file, path)) continue;
    lock.file_ = std::move(file);  // from here on a failure removes it again
    const std::string holder =
        json{{"host", host_name()}, {"pid", ::getpid()}, {"started", utc_now()}}.dump() + "\n";
    if (::ftruncate(lock.file_.get(), 0) != 0)
      throw Error(ErrorKind::io, "can't empty " + path + ": " + std::strerror(errno));
    lock.file_.write_at(0, holder.data(), holder.size());
    return lock;
  }
}

OutputLock::~OutputLock() {
  // Removed while still locked: whoever opened it meanwhile sees that the name is gone and opens anew.
  if (file_.is_open()) ::unlink(file_.path().c_str());
}

// --- journal
// ----------------------------------------------------------------------------------------------------------

Journal Journal::create(const std::string& out_path, const Identity& identity) {
  const std::string path = journal_path(out_path);
  const std::string line = line_of(identity_record(identity).dump());
  write_text_atomically(path, line);
  Journal journal;
  journal.file_ = File::open_write(path, false);
  journal.end_ = narrow<std::int64_t>(line.size());
  return journal;
}

Journal Journal::resume(const std::string& out_path, const Identity& identity) {
  const std::string path = journal_path(out_path);
  const Replay replayed = replay(path, read_text(path));
  check_identity(path, replayed.records.front(), identity);
  Journal journal;
  for (const json& record : replayed.records) journal.apply(record.dump());
  journal.file_ = File::open_write(path, false);
  journal.end_ = replayed.good_bytes;
  if (::ftruncate(journal.file_.get(), journal.end_) != 0)
    throw Error(ErrorKind::io, "can't cut the torn end off " + path + ": " + std::strerror(errno));
  journal.append(json{{"type", "resume"}, {"at", utc_now()}}.dump());
  return journal;
}

bool Journal::exists(const std::string& out_path) {
  return io::exists(journal_path(out_path));
}

void Journal::remove(const std::string& out_path) {
  std::error_code error;
  std::filesystem::remove(journal_path(out_path), error);
  if (error) throw Error(ErrorKind::io, "can't remove " + journal_path(out_path) + ": " + error.message());
}

std::vector<Range> ranges_between(const std::vector<Range>& ranges, std::int64_t count) {
  std::vector<Range> missing;
  std::int64_t at = 0;
  for (const Range& range : ranges) {
    if (range.begin >= count) break;
    if (range.begin > at) missing.push_back({at, range.begin});
    at = range.end;
  }
  if (at < count) missing.push_back({at, count});
  return missing;
}

std::vector<Range> Journal::unfinished(std::int64_t nq) const {
  return ranges_between(finished_, nq);
}

void Journal::finish(Range queries) {
  append(json{{"type", "finished"}, {"begin", queries.begin}, {"end", queries.end}}.dump());
}

void Journal::record_checkpoint(const Checkpoint& checkpoint) {
  append(json{{"type", "checkpoint"},
              {"begin", checkpoint.queries.begin},
              {"end", checkpoint.queries.end},
              {"rows_done", checkpoint.rows_done},
              {"ahead_end", checkpoint.ahead_end},
              {"ahead_rows", checkpoint.ahead_rows},
              {"slot", checkpoint.slot}}
             .dump());
}

void Journal::record_block(const Block& block) {
  json parts = json::array();
  for (const Part& part : block.parts) parts.push_back({part.offset_bytes, part.hits});
  append(json{{"type", "block"},
              {"row_begin", block.rows.begin},
              {"row_end", block.rows.end},
              {"begin", block.queries.begin},
              {"end", block.queries.end},
              {"parts", parts}}
             .dump());
}

Journal::Step Journal::step(const std::string& name) const {
  const auto found = steps_.find(name);
  return found == steps_.end() ? Step() : found->second;
}

void Journal::record_step(const std::string& name, Range rows, const std::vector<std::uint64_t>& hashes) {
  append(json{{"type", "step"}, {"step", name}, {"begin", rows.begin}, {"end", rows.end}, {"hashes", hashes}}
             .dump());
}

void Journal::record_publishing() {
  append(json{{"type", "publishing"}}.dump());
}

std::optional<std::uint64_t> Journal::content_hash(const std::string& input) const {
  for (const auto& [name, hash] : content_hashes_)
    if (name == input) return hash;
  return std::nullopt;
}

void Journal::record_content_hash(const std::string& input, std::uint64_t hash) {
  append(json{{"type", "content_hash"}, {"input", input}, {"hash", hash}}.dump());
}

void Journal::record_symmetrized(std::int64_t entries) {
  append(json{{"type", "symmetrized"}, {"entries", entries}}.dump());
}

void Journal::append(const std::string& record_json) {
  const std::string line = line_of(record_json);
  file_.write_at(end_, line.data(), line.size());
  file_.sync();
  end_ += narrow<std::int64_t>(line.size());
  apply(record_json);
}

void Journal::apply(const std::string& record_json) {
  const json record = json::parse(record_json);
  const std::string type = record.at("type");
  if (type == "finished") {
    insert_range(finished_, {record.at("begin"), record.at("end")});
  } else if (type == "checkpoint") {
    checkpoint_ = Checkpoint{.queries = {record.at("begin"), record.at("end")},
                             .rows_done = record.at("rows_done"),
                             .ahead_end = record.at("ahead_end"),
                             .ahead_rows = record.at("ahead_rows"),
                             .slot = record.at("slot")};
  } else if (type == "content_hash") {
    const std::string input = record.at("input");
    std::erase_if(content_hashes_, [&](const auto& entry) { return entry.first == input; });
    content_hashes_.emplace_back(input, record.at("hash").get<std::uint64_t>());
  } else if (type == "block") {
    Block block{{record.at("row_begin"), record.at("row_end")}, {record.at("begin"), record.at("end")}, {}};
    for (const json& part : record.at("parts")) block.parts.push_back({part.at(0), part.at(1)});
    blocks_.push_back(std::move(block));
  } else if (type == "step") {
    Step& step = steps_[record.at("step")];
    insert_range(step.rows, {record.at("begin"), record.at("end")});
    const std::vector<std::uint64_t> hashes = record.at("hashes");
    step.hashes.resize(hashes.size());
    for (std::size_t i = 0; i < hashes.size(); ++i) step.hashes[i] += hashes[i];
  } else if (type == "publishing") {
    is_publishing_ = true;
  } else if (type == "symmetrized") {
    symmetrized_entries_ = record.at("entries").get<std::int64_t>();
  } else if (type == "resume") {
    ++resumes_;
  }
}

// --- checkpoints
// ------------------------------------------------------------------------------------------------------

namespace {

std::string checkpoint_path(const std::string& out_path, int slot) {
  return out_path + ".checkpoint." + std::to_string(slot);
}

}  // namespace

ResultLayout checkpoint_layout(const std::string& out_path, int slot, std::int64_t nq, std::int64_t k) {
  const std::string path = checkpoint_path(out_path, slot);
  return {path, path, 0, nq * k * narrow<std::int64_t>(sizeof(GlobalId)), nq, k, sizeof(GlobalId), true};
}

void remove_checkpoints(const std::string& out_path) {
  std::error_code ignored;  // a leftover speaks of no query without its journal
  for (const int slot : {0, 1}) std::filesystem::remove(checkpoint_path(out_path, slot), ignored);
}

}  // namespace mpishards::io

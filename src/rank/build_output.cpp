#include "rank/build_output.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "io/result_files.hpp"
#include "rank/job_output.hpp"

namespace mpishards::rank {

namespace {

namespace fs = std::filesystem;

/// Where the index that is replaced stays until its successor has the name.
std::string replaced_path(const std::string& path) {
  return path + ".replaced";
}

bool is_stopped_run(const SearchJobConfig& config) {
  return io::Journal::exists(config.output) && io::exists(io::partial_of(config.output));
}

/// True where the index has its name and its journal is still there: a run was killed in between, or this is
/// another's index.
bool may_be_published_run(const SearchJobConfig& config) {
  return io::Journal::exists(config.output) && !io::exists(io::partial_of(config.output)) &&
         io::is_index_directory(config.output);
}

[[noreturn]] void throw_existing(const std::string& path) {
  throw Error(ErrorKind::cannot_create,
              path + " exists; name another output or allow its replacement with --overwrite");
}

/// @throws Error{usage} if the index would take the place of a folder with a file that the job reads
void refuse_output_over_input(const SearchJobConfig& config) {
  std::vector<std::string> inputs = config.settings_files;
  for (const io::InputSpec& spec : config.base) inputs.push_back(spec.path);
  std::error_code ignored;  // what can't be compared is not the same
  for (const std::string& input : inputs)
    for (fs::path folder = fs::weakly_canonical(input, ignored); folder.has_relative_path();
         folder = folder.parent_path())
      if (fs::equivalent(folder, config.output, ignored))
        throw Error(ErrorKind::usage,
                    input + " is read, and lies in the output " + config.output + "; name another output");
}

void remove_folder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw Error(ErrorKind::io, "can't remove " + path + ": " + error.message());
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directory(path, error);
  if (error) throw Error(ErrorKind::cannot_create, "can't create folder " + path + ": " + error.message());
}

const char* const kSteps[] = {kTrained, kAssigned, kPlaced, kCodec, kEncoded, kIndexed};

nlohmann::json to_json(const io::Journal::Step& step) {
  nlohmann::json rows = nlohmann::json::array();
  for (const io::Range& range : step.rows) rows.push_back({range.begin, range.end});
  return {rows, step.hashes};
}

io::Journal::Step step_from(const nlohmann::json& json) {
  io::Journal::Step step;
  for (const auto& range : json.at(0)) step.rows.push_back({range.at(0), range.at(1)});
  step.hashes = json.at(1).get<std::vector<std::uint64_t>>();
  return step;
}

}  // namespace

void refuse_index_output(const SearchJobConfig& config) {
  io::require_output_place(config.output, io::OutputKind::directory);
  refuse_output_over_input(config);
  const bool goes_on = config.resume && (is_stopped_run(config) || may_be_published_run(config));
  if (io::exists(replaced_path(config.output)) && !goes_on)
    throw Error(ErrorKind::cannot_create, replaced_path(config.output) +
                                              " exists: it is the index that a killed run was about to "
                                              "replace; rename or remove it first");
  if (!io::exists(config.output) || (config.resume && may_be_published_run(config))) return;
  if (!config.overwrite) throw_existing(config.output);
  if (!io::is_index_directory(config.output))
    throw Error(ErrorKind::cannot_create,
                config.output + " is no index, so --overwrite does not replace it; name another output");
}

BuildOutput::BuildOutput(const SearchJobConfig& config, const JobInputs& inputs, const io::IndexShape& shape,
                         const comm::Communicator& comm)
    : comm_(comm), path_(config.output), rows_(shape.rows) {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) open_on_root(config, inputs, shape);
  });
  share_state();
}

void BuildOutput::open_on_root(const SearchJobConfig& config, const JobInputs& inputs,
                               const io::IndexShape& shape) {
  refuse_index_output(config);
  const io::Journal::Identity identity = identity_of(config, inputs);
  lock_ = io::OutputLock::acquire(path_, io::OutputKind::directory);
  const bool named = may_be_published_run(config);
  if (!config.resume || (!is_stopped_run(config) && !named)) return start_anew(identity, shape);
  journal_ = io::Journal::resume(path_, identity);
  is_published_ = journal_->is_publishing();
  if (is_published_) take_name();
  if (named && !is_published_) {  // DIR.partial has vanished: the journal speaks of nothing
    if (!config.overwrite) throw_existing(path_);
    return start_anew(identity, shape);
  }
  layout_ = io::adopt_index_files(is_published_ ? path_ : io::partial_of(path_), shape);
}

void BuildOutput::start_anew(const io::Journal::Identity& identity, const io::IndexShape& shape) {
  // The journal goes first and comes last: it never speaks of an index that is not there.
  io::Journal::remove(path_);
  const std::string partial = io::partial_of(path_);
  remove_folder(partial);
  try {
    make_folder(partial);
    layout_ = io::create_index_files(partial, shape);
    journal_ = io::Journal::create(path_, identity);
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to tell
    fs::remove_all(partial, ignored);
    throw;
  }
}

/// What root knows, to all.
void BuildOutput::share_state() {
  std::string text;
  if (comm_.is_root()) {
    nlohmann::json steps = nlohmann::json::object();
    for (const char* name : kSteps) steps[name] = to_json(journal_->step(name));
    text = nlohmann::json{layout_.serialize(), steps, is_published_, journal_->resumes()}.dump();
  }
  comm_.broadcast_text(text);
  comm::agree(comm_, [&] {
    const nlohmann::json state = nlohmann::json::parse(text);
    files_.emplace(io::IndexLayout::deserialize(state.at(0)));
    for (const char* name : kSteps) steps_[name] = step_from(state.at(1).at(name));
    is_published_ = state.at(2);
    resumes_ = state.at(3);
  });
}

std::vector<io::Range> BuildOutput::unfinished(const std::string& step, std::int64_t count) const {
  return io::ranges_between(steps_.at(step).rows, count);
}

const std::vector<std::uint64_t>& BuildOutput::hashes(const std::string& step) const {
  return steps_.at(step).hashes;
}

void BuildOutput::record(const std::string& step, io::Range rows, const std::vector<std::uint64_t>& hashes) {
  const std::vector<std::string> all =
      comm_.gather_texts(nlohmann::json{rows.begin, rows.end, hashes}.dump());
  std::string text;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    for (const std::string& one : all) {
      const nlohmann::json json = nlohmann::json::parse(one);
      const io::Range range{json.at(0), json.at(1)};
      if (range.begin < range.end) journal_->record_step(step, range, json.at(2));
    }
    text = to_json(journal_->step(step)).dump();
  });
  comm_.broadcast_text(text);
  steps_[step] = step_from(nlohmann::json::parse(text));
}

std::string BuildOutput::resumed_text() const {
  if (resumes_ == 0) return "";
  if (is_published_) return "the index is complete";
  const auto rows_done = [this](const char* step) {
    std::int64_t rows = 0;
    for (const io::Range& range : steps_.at(step).rows) rows += range.end - range.begin;
    return std::to_string(rows) + " of " + std::to_string(rows_) + " rows are " + step;
  };
  if (steps_.at(kTrained).rows.empty() && steps_.at(kPlaced).rows.empty()) return "nothing is done yet";
  std::int64_t shards = 0;
  for (const io::Range& range : steps_.at(kIndexed).rows) shards += range.end - range.begin;
  return (steps_.at(kAssigned).rows.empty() ? "" : rows_done(kAssigned) + ", ") + rows_done(kPlaced) +
         (steps_.at(kEncoded).rows.empty() ? "" : ", " + rows_done(kEncoded)) +
         (shards == 0 ? "" : ", " + std::to_string(shards) + " shards are indexed");
}

void BuildOutput::publish(const io::IndexManifest& manifest) {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) publish_on_root(manifest);
  });
}

/// Gives the complete index its name, however far a killed run had come with it.
void BuildOutput::take_name() const {
  const std::string partial = io::partial_of(path_);
  if (!io::exists(partial)) return;
  io::remove_build_files(partial);
  if (io::exists(path_)) {
    remove_folder(replaced_path(path_));
    io::publish(path_, replaced_path(path_));
  }
  io::publish(partial, path_);
}

void BuildOutput::publish_on_root(const io::IndexManifest& manifest) {
  if (!is_published_) {
    const std::string partial = io::partial_of(path_);
    io::write_index_manifest(partial, manifest);
    journal_->record_publishing();
    take_name();
  }
  remove_folder(replaced_path(path_));
  io::Journal::remove(path_);
  lock_.reset();
}

void BuildOutput::discard_if_empty() {
  if (!comm_.is_root() || is_published_) return;
  for (const char* name : kSteps)
    if (!journal_->step(name).rows.empty()) return;
  io::Journal::remove(path_);
  std::error_code ignored;  // what is left over is no index
  fs::remove_all(io::partial_of(path_), ignored);
}

}  // namespace mpishards::rank

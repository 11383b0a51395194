#include "rank/job_output.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/hex.hpp"
#include "io/result_files.hpp"

namespace mpishards::rank {

namespace {

std::string range_text(io::Range range) {
  return std::to_string(range.begin) + ":" + std::to_string(range.end);
}

/// True where a run of this output was stopped and can be continued.
bool is_stopped_run(const SearchJobConfig& config) {
  return io::Journal::exists(config.output) && io::partial_exists(config.output, config.format);
}

/// True where the result has all its names and its journal is still there: a run was killed in between, or
/// this is another's result.
bool may_be_published_run(const SearchJobConfig& config) {
  if (!io::Journal::exists(config.output) || io::partial_exists(config.output, config.format)) return false;
  return std::ranges::all_of(io::result_paths(config.output, config.format), io::exists);
}

[[noreturn]] void throw_existing(const std::string& path) {
  throw Error(ErrorKind::cannot_create,
              path + " exists; name another output or allow its replacement with --overwrite");
}

/// @throws Error{usage} if a result would take the place of a file that the job reads
void refuse_output_over_input(const SearchJobConfig& config) {
  std::vector<std::string> inputs = config.settings_files;
  for (const std::vector<io::InputSpec>* specs : {&config.base, &config.queries})
    for (const io::InputSpec& spec : *specs) inputs.push_back(spec.path);
  std::error_code ignored;  // what can't be compared is not the same
  for (const std::string& output : io::result_paths(config.output, config.format))
    for (const std::string& input : inputs)
      if (std::filesystem::equivalent(output, input, ignored))
        throw Error(ErrorKind::usage, output + " is input and output at once; name another output");
}

/// Root's state in a form that can be broadcast.
struct OutputState {
  std::string layout;
  std::vector<io::Range> unfinished;
  std::optional<io::Journal::Checkpoint> checkpoint;
  bool is_symmetrized = false;
  int resumes = 0;
};

std::string encode(const OutputState& state) {
  nlohmann::json json = {
      {"layout", state.layout}, {"resumes", state.resumes}, {"is_symmetrized", state.is_symmetrized}};
  json["unfinished"] = nlohmann::json::array();
  for (const io::Range& range : state.unfinished) json["unfinished"].push_back({range.begin, range.end});
  if (const auto& c = state.checkpoint)
    json["checkpoint"] = {c->queries.begin, c->queries.end, c->rows_done,
                          c->ahead_end,     c->ahead_rows,  c->slot};
  return json.dump();
}

OutputState decode(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  OutputState state;
  state.layout = json.at("layout");
  state.resumes = json.at("resumes");
  state.is_symmetrized = json.at("is_symmetrized");
  for (const auto& range : json.at("unfinished")) state.unfinished.push_back({range.at(0), range.at(1)});
  if (json.contains("checkpoint")) {
    const auto& c = json.at("checkpoint");
    state.checkpoint = io::Journal::Checkpoint{.queries = {c.at(0), c.at(1)},
                                               .rows_done = c.at(2),
                                               .ahead_end = c.at(3),
                                               .ahead_rows = c.at(4),
                                               .slot = c.at(5)};
  }
  return state;
}

}  // namespace

void refuse_output(const SearchJobConfig& config) {
  io::require_output_place(config.output);
  refuse_output_over_input(config);
  if (config.overwrite) return;
  std::vector<std::string> existing;
  const std::vector<std::string> paths = io::result_paths(config.output, config.format);
  for (const std::string& path : paths)
    if (io::exists(path)) existing.push_back(path);
  // A run that was killed between the renames of a result of several files left some of them: it may go on.
  const bool half_published = existing.size() < paths.size() && is_stopped_run(config);
  const bool may_go_on = config.resume && (half_published || may_be_published_run(config));
  if (!existing.empty() && !may_go_on) throw_existing(existing.front());
}

std::string identities_json(const std::vector<io::InputSpec>& specs) {
  nlohmann::json list = nlohmann::json::array();
  for (const io::InputSpec& spec : specs) {
    const io::InputIdentity identity = io::identify(spec.path);
    list.push_back({{"path", identity.path},
                    {"size_bytes", identity.size_bytes},
                    {"mtime_ns", identity.mtime_ns},
                    {"checksum", identity.checksum}});
  }
  return list.dump();
}

namespace {

/// The inputs' names, sizes, times and checksums.
void add_inputs(io::Journal::Identity& identity, const std::string& role,
                const std::vector<io::InputSpec>& specs) {
  identity.emplace_back("number of " + role + " files", std::to_string(specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const std::string name = io::to_string(specs[i]);
    const io::InputIdentity file = io::identify(specs[i].path);
    identity.emplace_back(role + " file " + std::to_string(i), name);
    identity.emplace_back(role + " " + name + " size", std::to_string(file.size_bytes));
    identity.emplace_back(role + " " + name + " modification time", std::to_string(file.mtime_ns));
    identity.emplace_back(role + " " + name + " checksum", std::to_string(file.checksum));
  }
}

io::Journal::Identity identity_of_build(const SearchJobConfig& config) {
  io::Journal::Identity identity = {
      {"metric", std::string(to_string(config.metric))},
      {"index", config.index},
      {"training rows", std::to_string(config.build->training_rows)},
      {"iterations", std::to_string(config.build->iterations)},
      {"shards", std::to_string(config.build->shards)},
  };
  add_inputs(identity, "base", config.base);
  return identity;
}

}  // namespace

io::Journal::Identity identity_of(const SearchJobConfig& config, const JobInputs& inputs) {
  if (config.build) return identity_of_build(config);
  io::Journal::Identity identity = {
      {"metric", std::string(to_string(config.metric))},
      {"format", std::string(to_string(config.format))},
      {"index", config.index},
      {"nonfinite", config.drop_nonfinite ? "drop" : "error"},
      {"neighbors of itself", config.exclude_self ? "excluded" : "allowed"},
      {"queries range", range_text(inputs.query_rows)},
      {"base rows", range_text(inputs.base_rows)},
  };
  if (config.range) {
    std::array<char, 40> eps{};
    std::snprintf(eps.data(), eps.size(), "%.9g", static_cast<double>(config.range->eps));
    identity.emplace_back("eps", eps.data());
    identity.emplace_back("pairs", std::to_string(static_cast<int>(config.range->pairs)));
    if (config.range->has_clusters) identity.emplace_back("clusters", "found");
  } else {
    identity.emplace_back("k", std::to_string(config.k));
  }
  if (inputs.lists) identity.emplace_back("lists of the index", hex(inputs.index->lists_hash));
  if (inputs.has_faiss)
    for (std::size_t s = 0; s < inputs.index->shards.size(); ++s)
      identity.emplace_back("FAISS shard " + std::to_string(s), hex(inputs.index->shards[s].faiss_hash));
  if (inputs.names_candidates()) identity.emplace_back("rerank", std::to_string(config.rerank));
  const bool has_parameter = inputs.lists || inputs.has_faiss;
  if (has_parameter && config.nprobe > 0) identity.emplace_back("nprobe", std::to_string(config.nprobe));
  if (has_parameter && config.nprobe == 0) {
    identity.emplace_back("recall", std::to_string(config.recall));
    identity.emplace_back("recall queries", std::to_string(config.recall_queries));
  }
  if (config.symmetry != Symmetry::directed) identity.emplace_back("symmetrize", to_string(config.symmetry));
  add_inputs(identity, "base", config.base);
  add_inputs(identity, "queries", config.queries);
  return identity;
}

JobOutput::JobOutput(const SearchJobConfig& config, const JobInputs& inputs, const JobShape& shape,
                     const comm::Communicator& comm)
    : comm_(comm),
      path_(config.output),
      format_(config.format),
      nq_(shape.nq),
      k_(shape.k),
      searched_k_(shape.searched_k()) {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) open_on_root(config, inputs, shape);
  });
  std::string text;
  if (comm_.is_root())
    text = encode({layout_.serialize(), journal_->unfinished(nq_), journal_->checkpoint(), is_symmetrized_,
                   journal_->resumes()});
  comm_.broadcast_text(text);
  comm::agree(comm_, [&] {
    const OutputState state = decode(text);
    layout_ = io::ResultLayout::deserialize(state.layout);
    unfinished_ = state.unfinished;
    checkpoint_ = state.checkpoint;
    resumes_ = state.resumes;
    is_symmetrized_ = state.is_symmetrized;
    if (!is_symmetrized_) slices_.emplace(layout_);
  });
}

void JobOutput::open_on_root(const SearchJobConfig& config, const JobInputs& inputs, const JobShape& shape) {
  refuse_output(config);
  const io::Journal::Identity identity = identity_of(config, inputs);
  lock_ = io::OutputLock::acquire(path_);
  const bool published = !config.overwrite && may_be_published_run(config);
  if (config.resume && (is_stopped_run(config) || published)) return continue_stopped_run(shape, identity);
  start_anew(inputs, shape, identity);
}

void JobOutput::continue_stopped_run(const JobShape& shape, const io::Journal::Identity& identity) {
  journal_ = io::Journal::resume(path_, identity);
  if (!io::partial_exists(path_, format_) && !journal_->unfinished(nq_).empty())
    throw_existing(io::result_paths(path_, format_).front());
  if (const auto entries = journal_->symmetrized_entries())
    adopt_symmetrized(*entries);
  else
    layout_ = io::adopt_result(path_, format_, shape.nq, shape.k);
}

/// Goes on behind the journal's word that the undirected graph is whole: it may not have its place yet.
void JobOutput::adopt_symmetrized(std::int64_t entries) {
  is_symmetrized_ = true;
  const std::string made = io::partial_of(symmetrized_path());
  if (io::exists(made)) io::publish(made, io::partial_of(path_));
  io::adopt_csr(path_, {nq_, nq_, entries});
}

void JobOutput::start_anew(const JobInputs& inputs, const JobShape& shape,
                           const io::Journal::Identity& identity) {
  // The journal goes first and comes last: it never speaks of a result that is not there.
  io::Journal::remove(path_);
  io::remove_checkpoints(path_);
  io::remove_partial(path_, format_);
  io::remove_partial(symmetrized_path(), format_);
  layout_ = io::create_result(path_, format_, shape.nq, shape.k, inputs.base->rows() - 1);
  journal_ = io::Journal::create(path_, identity);
}

std::string JobOutput::resumed_text() const {
  if (resumes_ == 0) return "";
  std::int64_t answered = nq_;
  for (const io::Range& range : unfinished_) answered -= range.end - range.begin;
  std::string text = std::to_string(answered) + " of " + std::to_string(nq_) + " queries are answered";
  if (checkpoint_)
    text += "; queries " + range_text(checkpoint_->queries) +
            " have seen base rows 0:" + std::to_string(checkpoint_->rows_done);
  return text;
}

void JobOutput::finish(io::Range rows) {
  comm::agree(comm_, [&] { slices_->sync(); });
  comm::agree(comm_, [&] {
    if (comm_.is_root()) journal_->finish(rows);
  });
}

TopK JobOutput::read_checkpoint(std::int64_t first_row, std::int64_t nq, Metric metric) const {
  const std::int64_t pass_nq = checkpoint_->queries.end - checkpoint_->queries.begin;
  const io::ResultSlices saved(io::checkpoint_layout(path_, checkpoint_->slot, pass_nq, searched_k_));
  return saved.read(first_row - checkpoint_->queries.begin, nq, metric);
}

void JobOutput::save_checkpoint(const io::Journal::Checkpoint& state,
                                const std::vector<std::pair<std::int64_t, const TopK*>>& slices) {
  io::Journal::Checkpoint saved = state;
  saved.slot = checkpoint_ ? 1 - checkpoint_->slot : 0;
  const std::int64_t pass_nq = state.queries.end - state.queries.begin;
  const io::ResultLayout layout = io::checkpoint_layout(path_, saved.slot, pass_nq, searched_k_);
  comm::agree(comm_, [&] {
    if (comm_.is_root()) io::File::open_write(layout.neighbors_path, false).close();
  });
  comm::agree(comm_, [&] {
    const io::ResultSlices file(layout);
    for (const auto& [first_row, rows] : slices) file.write(first_row - state.queries.begin, *rows);
    file.sync();
  });
  comm::agree(comm_, [&] {
    if (comm_.is_root()) journal_->record_checkpoint(saved);
  });
  checkpoint_ = saved;
}

std::string JobOutput::symmetrized_path() const {
  return path_ + ".symmetrized";
}

io::CsrSlices JobOutput::directed_graph() const {
  return io::CsrSlices({.path = layout_.neighbors_path,
                        .shape = {nq_, nq_, nq_ * k_},
                        .indices_offset = layout_.neighbors_offset,
                        .data_offset = layout_.distances_offset});
}

void JobOutput::replace_by_symmetrized(std::int64_t entries) {
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    journal_->record_symmetrized(entries);
    adopt_symmetrized(entries);
  });
  is_symmetrized_ = true;
}

void JobOutput::discard_if_empty() {
  if (!comm_.is_root() || checkpoint_ || !journal_->finished().empty()) return;
  io::Journal::remove(path_);
  io::remove_checkpoints(path_);
  io::remove_partial(path_, format_);
}

void JobOutput::publish(const io::Attributes& attributes) {
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    io::publish_result(path_, format_, attributes);
    io::Journal::remove(path_);
    io::remove_checkpoints(path_);
    lock_.reset();
  });
}

}  // namespace mpishards::rank

#include "serve/cluster.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>

#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "core/error.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/host_info.hpp"
#include "rank/stop.hpp"
#include "serve/heap.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {

namespace {

std::int64_t unix_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Root's values to all ranks. @param count  how many, known on every rank
template <class T>
void share(const comm::Communicator& comm, std::vector<T>& values, std::int64_t count) {
  values.resize(static_cast<std::size_t>(count));
  comm.broadcast_bytes(values.data(), values.size() * sizeof(T));
}

std::int64_t intervals_in(const IdSet& set) {
  return std::ssize(set.intervals());
}

/// Every rank's slice of an answer, joined on root; empty elsewhere.
TopK gather_slices(const comm::Communicator& comm, const TopK& slice, std::int64_t nq) {
  if (comm.size() == 1) return slice;
  TopK all(comm.is_root() ? nq : 0, slice.k(), slice.metric());
  std::vector<std::int64_t> counts;
  for (int r = 0; r < comm.size(); ++r)
    counts.push_back(merge::slice_of(nq, r, comm.size()).size() * slice.k());
  const auto mine = static_cast<std::size_t>(slice.nq() * slice.k());
  const auto total = static_cast<std::size_t>(all.nq() * all.k());
  comm.gather_records(std::span<const GlobalId>(slice.neighbors(), mine), counts,
                      std::span(all.neighbors(), total));
  comm.gather_records(std::span<const float>(slice.distances(), mine), counts,
                      std::span(all.distances(), total));
  return all;
}

/// Does rank 0's part of a command. What the ranks did not agree upon leaves them inside a collective, so it
/// ends the job.
template <class Step>
auto agreed_or_fatal(const Step& step) {
  try {
    return step();
  } catch (const comm::AgreedError&) {
    throw;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpishards: rank 0: %s; the server ends\n", error.what());
    comm::abort_job(exit_code(ErrorKind::internal));
  }
}

}  // namespace

enum class Cluster::Verb : std::int32_t {
  stop,
  heartbeat,
  begin_load,
  finish_load,
  release,
  search,
  select,
  count,
  fetch
};

struct Cluster::Command {
  Verb verb = Verb::heartbeat;
  std::int32_t slot = 0;
  std::int64_t size = 0;  // search: k; select, count: intervals; fetch: ids; heartbeat: 1 where a rest begins
  std::int64_t limit = 0;  // select
};

/// One collection on this rank.
struct Cluster::Slot {
  std::unique_ptr<CollectionPart> part;                // null: not loaded
  std::future<std::unique_ptr<CollectionPart>> begun;  // of begin_load
  std::int64_t generation = 0;
  std::int64_t created_ms = 0;
};

Cluster::Cluster(const std::vector<CollectionSpec>& specs, const rank::SearchEngineConfig& engine,
                 const comm::Communicator& comm)
    : specs_(specs), engine_(engine), comm_(comm) {
  for (std::size_t s = 0; s < specs.size(); ++s) {
    slots_.push_back(std::make_unique<Slot>());
    CollectionInfo info;
    info.slot = static_cast<int>(s);
    info.name = specs[s].name;
    catalogue_.set(std::move(info));
  }
}

Cluster::~Cluster() = default;

void Cluster::send(const Command& command) {
  Command sent = command;
  if (comm_.size() > 1) comm_.broadcast_patiently(&sent, sizeof sent);
}

void Cluster::load_all() {
  for (int slot = 0; slot < static_cast<int>(slots_.size()); ++slot) {
    do_begin_load(slot);
    do_finish_load(slot);
  }
}

void Cluster::follow() {
  for (;;) {
    Command command;
    comm_.broadcast_patiently(&command, sizeof command);
    try {
      if (!obey(command)) return;
    } catch (const comm::AgreedError&) {
      // Rank 0 throws the same and answers whoever asked.
    }
  }
}

bool Cluster::obey(const Command& command) {
  switch (command.verb) {
    case Verb::stop:
      return false;
    case Verb::heartbeat:
      do_heartbeat(command.size != 0);
      break;
    case Verb::begin_load:
      do_begin_load(command.slot);
      break;
    case Verb::finish_load:
      do_finish_load(command.slot);
      break;
    case Verb::release:
      do_release(command.slot);
      break;
    case Verb::search:
      do_search(command.slot, {}, command.size, nullptr);
      break;
    case Verb::select: {
      std::vector<IdSet::Interval> intervals;
      share(comm_, intervals, command.size);
      do_select(command.slot, IdSet::of_intervals(std::move(intervals)), command.limit);
      break;
    }
    case Verb::count: {
      std::vector<IdSet::Interval> intervals;
      share(comm_, intervals, command.size);
      do_count(command.slot, IdSet::of_intervals(std::move(intervals)));
      break;
    }
    case Verb::fetch: {
      std::vector<GlobalId> ids;
      share(comm_, ids, command.size);
      do_fetch(command.slot, std::move(ids));
      break;
    }
  }
  return true;
}

/// Whether a part is loaded is the same on every rank, so rank 0 finds out before it sends a command.
CollectionPart& Cluster::part(int slot) {
  const std::unique_ptr<CollectionPart>& part = slots_.at(static_cast<std::size_t>(slot))->part;
  if (part == nullptr)
    throw RequestError(Code::collection_not_loaded,
                       "collection " + specs_[static_cast<std::size_t>(slot)].name + " is not loaded");
  return *part;
}

void Cluster::begin_load(int slot) {
  agreed_or_fatal([&] {
    send({Verb::begin_load, slot});
    do_begin_load(slot);
  });
}

void Cluster::finish_load(int slot) {
  agreed_or_fatal([&] {
    send({Verb::finish_load, slot});
    do_finish_load(slot);
  });
}

void Cluster::release(int slot) {
  agreed_or_fatal([&] {
    send({Verb::release, slot});
    do_release(slot);
  });
}

void Cluster::do_begin_load(int slot) {
  const CollectionSpec& spec = specs_.at(static_cast<std::size_t>(slot));
  Slot& own = *slots_.at(static_cast<std::size_t>(slot));
  if (own.part == nullptr) note_state(slot, LoadState::loading);
  own.begun = std::async(std::launch::async,
                         [&spec, this] { return std::make_unique<CollectionPart>(spec, engine_, comm_); });
}

bool Cluster::is_read(int slot) const {
  return slots_.at(static_cast<std::size_t>(slot))->begun.wait_for(std::chrono::seconds(0)) ==
         std::future_status::ready;
}

void Cluster::do_finish_load(int slot) {
  Slot& own = *slots_.at(static_cast<std::size_t>(slot));
  const double begin = steady_seconds();
  std::unique_ptr<CollectionPart> part;
  try {
    comm::agree(comm_, [&] {
      part = own.begun.get();
      part->build(engine_, comm_);
    });
    const std::string facts = std::to_string(part->file_rows()) + " x " + std::to_string(part->dim()) + " " +
                              std::string(to_string(part->dtype()));
    std::string roots = facts;
    comm_.broadcast_text(roots);
    comm::agree(comm_, [&] {
      if (roots != facts)
        throw Error(ErrorKind::config, "this rank reads " + facts + " from the files of collection " +
                                           specs_[static_cast<std::size_t>(slot)].name + ", rank 0 " + roots +
                                           "; is the file system the same on every host?");
    });
  } catch (const comm::AgreedError&) {
    if (own.part == nullptr) note_state(slot, LoadState::released);
    throw;
  }
  own.part = std::move(part);
  ++own.generation;
  describe(slot, own.part->shard().read_seconds + steady_seconds() - begin);
}

void Cluster::do_release(int slot) {
  slots_.at(static_cast<std::size_t>(slot))->part.reset();
  note_state(slot, LoadState::released);
}

void Cluster::note_state(int slot, LoadState state) {
  CollectionInfo info = *catalogue_.at(slot);
  info.state = state;
  info.shards.clear();
  catalogue_.set(std::move(info));
}

/// Collects what rank 0 tells clients. Collective.
void Cluster::describe(int slot, double load_seconds) {
  Slot& own = *slots_.at(static_cast<std::size_t>(slot));
  const CollectionPart& part = *own.part;
  const nlohmann::json mine = {{"host", rank::host_name()},
                               {"rows", part.rows()},
                               {"bytes", part.bytes()},
                               {"seconds", load_seconds},
                               {"dropped", part.shard().dropped_rows}};
  const std::vector<std::string> texts = comm_.gather_texts(mine.dump());
  if (!comm_.is_root()) return;
  CollectionInfo info = *catalogue_.at(slot);
  const CollectionSpec& spec = specs_[static_cast<std::size_t>(slot)];
  info.source.clear();
  for (const io::InputSpec& input : spec.base)
    info.source += (info.source.empty() ? "" : ", ") + to_string(input);
  info.metric = spec.metric;
  info.dtype = part.dtype();
  info.dim = part.dim();
  info.has_ids = part.has_ids();
  info.rows = 0;
  info.dropped_rows = 0;
  info.shards.clear();
  hosts_.clear();
  for (std::size_t r = 0; r < texts.size(); ++r) {
    const nlohmann::json shard = nlohmann::json::parse(texts[r]);
    info.shards.push_back(
        {static_cast<int>(r), shard.at("host"), shard.at("rows"), shard.at("bytes"), shard.at("seconds")});
    info.rows += info.shards.back().rows;
    info.dropped_rows += shard.at("dropped").get<std::int64_t>();
    hosts_.push_back(info.shards.back().host);
  }
  info.generation = own.generation;
  info.updated_ms = unix_milliseconds();
  if (own.created_ms == 0) own.created_ms = info.updated_ms;
  info.created_ms = own.created_ms;
  // Ids of collections are times in milliseconds and the slot, as unique as a client needs them.
  info.id = own.created_ms * 1000 + slot + 1;
  info.state = LoadState::loaded;
  catalogue_.set(std::move(info));
}

TopK Cluster::search(int slot, Matrix queries, std::int64_t k, BatchRecord& record) {
  part(slot);
  return agreed_or_fatal([&] {
    send({Verb::search, slot, k});
    return do_search(slot, std::move(queries), k, &record);
  });
}

TopK Cluster::do_search(int slot, Matrix queries, std::int64_t k, BatchRecord* record) {
  CollectionPart::Timing timing;
  std::int64_t nq = 0;
  const TopK slice = part(slot).search(std::move(queries), k, timing, nq);
  TopK all = gather_slices(comm_, slice, nq);
  std::vector<double> seconds(comm_.is_root() ? static_cast<std::size_t>(comm_.size()) : 0);
  const std::vector<std::int64_t> one_each(static_cast<std::size_t>(comm_.size()), 1);
  comm_.gather_records(std::span<const double>(&timing.search_seconds, 1), one_each, std::span(seconds));
  if (record != nullptr) {
    record->scatter_seconds = timing.scatter_seconds;
    record->search_seconds = std::move(seconds);
    record->search_hosts = hosts_;
    record->merge_seconds = timing.merge_seconds;
  }
  return all;
}

std::vector<GlobalId> Cluster::select(int slot, const IdSet& set, std::int64_t limit) {
  part(slot);
  return agreed_or_fatal([&] {
    send({Verb::select, slot, intervals_in(set), limit});
    std::vector<IdSet::Interval> intervals = set.intervals();
    share(comm_, intervals, std::ssize(intervals));
    return do_select(slot, set, limit);
  });
}

std::vector<GlobalId> Cluster::do_select(int slot, IdSet set, std::int64_t limit) {
  std::vector<GlobalId> mine;
  comm::agree(comm_, [&] { mine = part(slot).select(set, limit); });
  std::vector<std::int64_t> counts = comm_.all_gather(std::ssize(mine));
  std::int64_t total = 0;
  for (const std::int64_t count : counts) total += count;
  std::vector<GlobalId> all(comm_.is_root() ? static_cast<std::size_t>(total) : 0);
  comm_.gather_records(std::span<const GlobalId>(mine), counts, std::span(all));
  std::ranges::sort(all);
  const auto repeated = std::ranges::unique(all);
  all.erase(repeated.begin(), repeated.end());
  if (std::ssize(all) > limit) all.resize(static_cast<std::size_t>(limit));
  return all;
}

std::int64_t Cluster::count(int slot, const IdSet& set) {
  part(slot);
  return agreed_or_fatal([&] {
    send({Verb::count, slot, intervals_in(set)});
    std::vector<IdSet::Interval> intervals = set.intervals();
    share(comm_, intervals, std::ssize(intervals));
    return do_count(slot, set);
  });
}

std::int64_t Cluster::do_count(int slot, IdSet set) {
  return comm_.sum(part(slot).count(set));
}

FetchedRows Cluster::fetch(int slot, const std::vector<GlobalId>& ids) {
  part(slot);
  return agreed_or_fatal([&] {
    send({Verb::fetch, slot, std::ssize(ids)});
    std::vector<GlobalId> shared = ids;
    share(comm_, shared, std::ssize(shared));
    return do_fetch(slot, std::move(shared));
  });
}

FetchedRows Cluster::do_fetch(int slot, std::vector<GlobalId> ids) {
  const CollectionPart& own = part(slot);
  const TypedView vectors = own.shard().vectors.view();
  std::vector<std::int64_t> places;
  std::string rows;
  comm::agree(comm_, [&] {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::int64_t row = own.find(ids[i]);
      if (row < 0) continue;
      places.push_back(static_cast<std::int64_t>(i));
      rows.append(reinterpret_cast<const char*>(vectors.row(row)), vectors.row_bytes());
    }
  });
  const std::vector<std::string> all_places = comm_.gather_texts(bytes_of(places));
  const std::vector<std::string> all_rows = comm_.gather_texts(rows);
  FetchedRows fetched;
  if (!comm_.is_root()) return fetched;
  fetched.vectors = Matrix(vectors.dtype, std::ssize(ids), own.dim());
  if (fetched.vectors.bytes() > 0) std::memset(fetched.vectors.data(), 0, fetched.vectors.bytes());
  fetched.found.resize(ids.size());
  for (std::size_t r = 0; r < all_places.size(); ++r) {
    std::vector<std::int64_t> of_rank(all_places[r].size() / sizeof(std::int64_t));
    if (!of_rank.empty()) std::memcpy(of_rank.data(), all_places[r].data(), all_places[r].size());
    for (std::size_t i = 0; i < of_rank.size(); ++i) {
      const auto place = static_cast<std::size_t>(of_rank[i]);
      if (fetched.found[place] != 0) continue;  // an id that two ranks have: the lower row is shown
      fetched.found[place] = 1;
      std::memcpy(fetched.vectors.data() + place * vectors.row_bytes(),
                  all_rows[r].data() + i * vectors.row_bytes(), vectors.row_bytes());
    }
  }
  return fetched;
}

bool Cluster::heartbeat(bool begins_rest) {
  send({.verb = Verb::heartbeat, .size = begins_rest ? 1 : 0});
  return do_heartbeat(begins_rest);
}

bool Cluster::do_heartbeat(bool begins_rest) const {
  if (begins_rest) return_free_memory();
  return comm_.max(std::int64_t{rank::stop_level()}) != 0;
}

void Cluster::stop() {
  send({Verb::stop});
}

}  // namespace mpishards::serve
